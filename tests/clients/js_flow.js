// @azure/storage-blob against a box: argv: endpoint account key container flow,flow,... Prints "ok NAME" per flow; throws on the first fault.
const { BlobServiceClient, StorageSharedKeyCredential } = require(process.env.NPM + "/@azure/storage-blob");
const assert = require("node:assert");
const { Readable } = require("node:stream");
const [endpoint, account, key, name, wanted] = process.argv.slice(2);
const service = new BlobServiceClient(endpoint, new StorageSharedKeyCredential(account, key), { retryOptions: { maxTries: 1 } });
const container = service.getContainerClient(name);
const bytes = (n, seed) => { const b = Buffer.alloc(n); let x = seed * 2654435761 >>> 0; for (let i = 0; i < n; i++) { x = (x * 1664525 + 1013904223) >>> 0; b[i] = x >>> 24; } return b; };
const code = async (p) => { try { await p; return "none"; } catch (e) { return `${e.statusCode} ${e.response.headers.get("x-ms-error-code")}`; } };

// A body nobody reads keeps its connection, and so this process, until the server's idle timer ends it.
const drained = async (answer) => { for await (const _ of answer.readableStreamBody); };

const flows = {
  async upload_and_properties() {
    const blob = container.getBlockBlobClient("js/small");
    await blob.upload("hello", 5, { metadata: { a: "1" }, blobHTTPHeaders: { blobContentType: "text/plain" } });
    const p = await blob.getProperties();
    assert.deepStrictEqual([p.contentLength, p.metadata.a, p.contentType, p.blobType], [5, "1", "text/plain", "BlockBlob"]);
    assert.strictEqual((await blob.downloadToBuffer()).toString(), "hello");
  },
  async staged_stream() {
    const blob = container.getBlockBlobClient("js/stream"), data = bytes(20 * 1024 * 1024 + 5, 1);
    await blob.uploadStream(Readable.from([data]), 4 * 1024 * 1024, 5);
    assert.ok((await blob.downloadToBuffer(0, undefined, { concurrency: 5, blockSize: 3 * 1024 * 1024 })).equals(data));
  },
  async ranges() {
    const blob = container.getBlockBlobClient("js/ranges"), data = bytes(300000, 2);
    await blob.uploadData(data);
    assert.ok((await blob.downloadToBuffer(65530, 100)).equals(data.subarray(65530, 65630)));
    const md5 = await blob.download(0, 100000, { rangeGetContentMD5: true });
    assert.strictEqual(Buffer.from(md5.contentMD5).toString("hex"), require("crypto").createHash("md5").update(data.subarray(0, 100000)).digest("hex"));
    await drained(md5);
    const crc = await blob.download(0, 100000, { rangeGetContentCrc64: true });
    await drained(crc);
    assert.strictEqual(crc.contentCrc64.length, 8);
    assert.strictEqual(await code(blob.download(300000, 1)), "416 InvalidRange");
  },
  async lists() {
    for (const n of ["l/a", "l/b/1", "l/b/2", "l/c"]) await container.getBlockBlobClient(n).upload("x", 1);
    const seen = [];
    for await (const page of container.listBlobsByHierarchy("/", { prefix: "l/" }).byPage({ maxPageSize: 2 }))
      seen.push(...page.segment.blobPrefixes.map((p) => p.name), ...page.segment.blobItems.map((b) => b.name));
    assert.deepStrictEqual(seen.sort(), ["l/a", "l/b/", "l/c"]);
  },
  async conditions() {
    const blob = container.getBlockBlobClient("js/cond");
    const { etag } = await blob.upload("1", 1);
    assert.strictEqual(await code(blob.upload("2", 1, { conditions: { ifNoneMatch: "*" } })), "409 BlobAlreadyExists");
    await blob.upload("2", 1, { conditions: { ifMatch: etag } });
    assert.strictEqual(await code(blob.upload("3", 1, { conditions: { ifMatch: etag } })), "412 ConditionNotMet");
    assert.strictEqual(await code(container.getBlockBlobClient("js/none").getProperties()), "404 BlobNotFound");
  },
  async batch() { // of the service, which posts to /ACCOUNT?restype=container, and of the container
    for (const client of [service.getBlobBatchClient(), container.getBlobBatchClient()]) {
      const blobs = ["a", "dir/b c", "d%20\u00e9"].map((n) => container.getBlockBlobClient("batch/" + n));
      for (const b of blobs) await b.upload("x", 1);
      const none = container.getBlockBlobClient("batch/none");
      const { subResponses, subResponsesSucceededCount, subResponsesFailedCount } = await client.deleteBlobs([...blobs, none]);
      assert.deepStrictEqual([subResponsesSucceededCount, subResponsesFailedCount], [3, 1]);
      assert.deepStrictEqual(subResponses.map((r) => [r.status, r.errorCode]),
        [[202, undefined], [202, undefined], [202, undefined], [404, "BlobNotFound"]]);
      for (const b of blobs) assert.strictEqual(await b.exists(), false);
    }
    const kept = container.getBlockBlobClient("batch/kept"), alone = await code(kept.upload("x", 1).then(() => kept.setAccessTier("Cool")));
    const [tier] = (await service.getBlobBatchClient().setBlobsAccessTier([kept], "Cool")).subResponses;
    assert.strictEqual(tier.errorCode ? `${tier.status} ${tier.errorCode}` : "none", alone); // as alone
  },
  async structured_bodies() {
    const blob = container.getBlockBlobClient("js/structured"), data = bytes(9 * 1024 * 1024 + 5, 3), crc = { contentChecksumAlgorithm: "StorageCrc64" };
    const all = async (r) => { const parts = []; for await (const p of r.readableStreamBody) parts.push(p); return Buffer.concat(parts); };
    const up = await blob.upload(data, data.length, crc);
    assert.strictEqual(up.structuredBodyType ?? up._response.headers.get("x-ms-structured-body"), "XSM/1.0; properties=crc64");
    assert.ok((await blob.downloadToBuffer()).equals(data)); // what is stored is the content alone
    assert.ok((await all(await blob.download(0, undefined, crc))).equals(data));
    assert.ok((await all(await blob.download(70000, 5 * 1024 * 1024, crc))).equals(data.subarray(70000, 70000 + 5 * 1024 * 1024)));
    await blob.uploadData(data, { ...crc, blockSize: 2 * 1024 * 1024, maxSingleShotSize: 1024 });
    assert.strictEqual((await blob.getBlockList("committed")).committedBlocks.length, 5);
    assert.ok((await blob.downloadToBuffer(0, undefined, { ...crc, blockSize: 3 * 1024 * 1024 })).equals(data));
    const empty = container.getBlockBlobClient("js/structured-empty");
    await empty.upload("", 0);
    assert.strictEqual((await all(await empty.download(0, undefined, crc))).length, 0);
  },
  async snapshots() {
    const blob = container.getBlockBlobClient("js/snap"), data = bytes(150000, 4);
    await blob.uploadData(data, { metadata: { a: "1" } });
    const taken = [await blob.createSnapshot(), await blob.createSnapshot({ metadata: { b: "2" } })].map((s) => s.snapshot);
    await blob.upload("new", 3);
    assert.ok((await blob.withSnapshot(taken[0]).downloadToBuffer()).equals(data));
    assert.deepStrictEqual((await blob.withSnapshot(taken[1]).getProperties()).metadata, { b: "2" });
    const seen = [];
    for await (const b of container.listBlobsFlat({ includeSnapshots: true })) seen.push(b.snapshot || b.name);
    assert.deepStrictEqual(seen, [...taken, "js/snap"]);
    assert.strictEqual(await code(blob.delete()), "409 SnapshotsPresent");
    assert.strictEqual(await code(blob.withSnapshot(taken[0]).delete({ deleteSnapshots: "include" })), "400 InvalidOperation");
    await blob.withSnapshot(taken[0]).delete();
    assert.strictEqual(await code(blob.withSnapshot(taken[0]).getProperties()), "404 BlobNotFound");
    await blob.delete({ deleteSnapshots: "include" });
    assert.strictEqual(await code(blob.withSnapshot(taken[1]).getProperties()), "404 BlobNotFound");
  },
  async leases() {
    const blob = container.getBlockBlobClient("js/leased"), lease = blob.getBlobLeaseClient();
    const { etag } = await blob.upload("1", 1);
    assert.strictEqual((await lease.acquireLease(60)).etag, etag);
    assert.strictEqual(await code(blob.upload("2", 1)), "412 LeaseIdMissing");
    await blob.upload("2", 1, { conditions: { leaseId: lease.leaseId } });
    const old = lease.leaseId;
    await lease.changeLease("1f1f0000-0000-4000-8000-000000000001");
    assert.strictEqual(await code(blob.setMetadata({}, { conditions: { leaseId: old } })), "412 LeaseIdMismatchWithBlobOperation");
    await lease.renewLease();
    const p = await blob.getProperties({ conditions: { leaseId: lease.leaseId } });
    assert.deepStrictEqual([p.leaseStatus, p.leaseState, p.leaseDuration], ["locked", "leased", "fixed"]);
    assert.ok((await lease.breakLease(10)).leaseTime <= 10);
    assert.strictEqual(await code(blob.getBlobLeaseClient().acquireLease(-1)), "409 LeaseAlreadyPresent");
    await lease.releaseLease();
    const whole = container.getBlobLeaseClient();
    await whole.acquireLease(-1);
    assert.strictEqual(await code(container.delete()), "412 LeaseIdMissing");
    await container.delete({ conditions: { leaseId: whole.leaseId } });
  },
  async account_info() {
    assert.strictEqual((await service.getAccountInfo()).accountKind, "StorageV2");
    await service.getProperties();
  },
};
(async () => { for (const n of wanted.split(",")) { await flows[n](); console.log("ok " + n); } process.exit(0); /* decoded streams keep it alive */ })().catch((e) => { console.error(e); process.exit(1); });
