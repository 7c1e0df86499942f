// Service properties, ACL, a SAS by policy and an anonymous reader, by @azure/storage-blob.
// usage: node js_acl_flow.js SERVICE-URL ACCOUNT KEY CONTAINER
const { BlobServiceClient, ContainerClient, StorageSharedKeyCredential, generateBlobSASQueryParameters } =
  require(process.env.NPM + "/@azure/storage-blob");
const assert = require("assert");

const [url, account, key, name] = process.argv.slice(2);
const credential = new StorageSharedKeyCredential(account, key);
const service = new BlobServiceClient(url, credential);
const container = service.getContainerClient(name);

async function properties() {
  await service.setProperties({
    blobAnalyticsLogging: { version: "1.0", deleteProperty: true, read: false, write: true, retentionPolicy: { enabled: true, days: 5 } },
    hourMetrics: { enabled: true, includeAPIs: true, version: "1.0", retentionPolicy: { enabled: true, days: 4 } },
    minuteMetrics: { enabled: false, version: "1.0", retentionPolicy: { enabled: false } },
    cors: [{ allowedOrigins: "http://a.example", allowedMethods: "GET,PUT", allowedHeaders: "*", exposedHeaders: "*", maxAgeInSeconds: 10 }],
    deleteRetentionPolicy: { enabled: true, days: 3 },
    staticWebsite: { enabled: true, indexDocument: "index.html", errorDocument404Path: "404.html" },
  });
  const p = await service.getProperties();
  assert.strictEqual(p.blobAnalyticsLogging.retentionPolicy.days, 5);
  assert.strictEqual(p.hourMetrics.includeAPIs, true);
  assert.strictEqual(p.cors[0].allowedOrigins, "http://a.example");
  assert.strictEqual(p.deleteRetentionPolicy.days, 3);
  assert.strictEqual(p.staticWebsite.errorDocument404Path, "404.html");
  await service.setProperties({ cors: [], deleteRetentionPolicy: { enabled: false } });
  const q = await service.getProperties();
  assert.strictEqual((q.cors || []).length, 0);
  assert.strictEqual(q.staticWebsite.indexDocument, "index.html");
}

async function acl() {
  const until = new Date(Date.now() + 3600 * 1000);
  await container.uploadBlockBlob("b", "text", 4);
  await container.setAccessPolicy("container", [{ id: "js", accessPolicy: { expiresOn: until, permissions: "rl" } }]);
  const got = await container.getAccessPolicy();
  assert.strictEqual(got.blobPublicAccess, "container");
  assert.strictEqual(got.signedIdentifiers[0].id, "js");
  assert.strictEqual(got.signedIdentifiers[0].accessPolicy.expiresOn.getTime(), until.getTime());
  const sas = generateBlobSASQueryParameters({ containerName: name, identifier: "js" }, credential);
  const reader = new ContainerClient(`${url}/${name}?${sas}`);
  assert.strictEqual((await reader.getBlobClient("b").downloadToBuffer()).toString(), "text");
  await assert.rejects(reader.uploadBlockBlob("c", "x", 1), (e) => e.statusCode === 403);
  const anybody = new ContainerClient(`${url}/${name}`);
  const names = [];
  for await (const blob of anybody.listBlobsFlat()) names.push(blob.name);
  assert.deepStrictEqual(names, ["b"]);
  await container.setAccessPolicy();
  await assert.rejects(reader.getBlobClient("b").getProperties(), (e) => e.statusCode === 403);
  await assert.rejects(anybody.getBlobClient("b").getProperties(), (e) => e.statusCode === 401);
}

(async () => {
  for (const flow of [properties, acl]) {
    await flow();
    console.log("ok " + flow.name);
  }
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
