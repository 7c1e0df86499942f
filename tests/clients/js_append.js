// @azure/storage-blob on append blobs: argv: endpoint account key container. Prints "ok"; throws on the first fault.
const { BlobServiceClient, StorageSharedKeyCredential } = require(process.env.NPM + "/@azure/storage-blob");
const assert = require("node:assert");
const [endpoint, account, key, name] = process.argv.slice(2);
const service = new BlobServiceClient(endpoint, new StorageSharedKeyCredential(account, key), { retryOptions: { maxTries: 1 } });
const container = service.getContainerClient(name);
const code = async (p) => { try { await p; return "none"; } catch (e) { return `${e.statusCode} ${e.response.headers.get("x-ms-error-code")}`; } };

(async () => {
  const log = container.getAppendBlobClient("js/log");
  await log.create({ metadata: { a: "1" }, blobHTTPHeaders: { blobContentType: "text/plain" } });
  assert.strictEqual((await log.createIfNotExists()).succeeded, false);
  const one = await log.appendBlock("one,", 4, { conditions: { appendPosition: 0, maxSize: 4 } });
  assert.deepStrictEqual([one.blobAppendOffset, one.blobCommittedBlockCount], ["0", 1]);
  const two = await log.appendBlock("two,", 4, { transactionalContentMD5: require("crypto").createHash("md5").update("two,").digest() });
  assert.deepStrictEqual([two.blobAppendOffset, two.blobCommittedBlockCount], ["4", 2]);
  assert.strictEqual(await code(log.appendBlock("x", 1, { conditions: { appendPosition: 4 } })), "412 AppendPositionConditionNotMet");
  assert.strictEqual(await code(log.appendBlock("x", 1, { conditions: { maxSize: 8 } })), "412 MaxBlobSizeConditionNotMet");
  assert.strictEqual(await code(container.getBlockBlobClient("js/log").stageBlock("AAAA", "x", 1)), "409 InvalidBlobType");
  const p = await log.getProperties();
  assert.deepStrictEqual([p.blobType, p.blobCommittedBlockCount, p.contentLength, p.metadata.a, p.etag], ["AppendBlob", 2, 8, "1", two.etag]);
  const sealed = await log.seal();
  assert.strictEqual(sealed.isSealed, true);
  assert.strictEqual(await code(log.appendBlock("x", 1)), "409 BlobIsSealed");
  for await (const b of container.listBlobsFlat()) assert.deepStrictEqual([b.name, b.properties.blobType, b.properties.isSealed], ["js/log", "AppendBlob", true]);
  assert.strictEqual((await log.downloadToBuffer()).toString(), "one,two,");
  console.log("ok");
})();
