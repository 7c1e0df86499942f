// OpenDAL against a box: argv: endpoint account key container. Prints "ok NAME" per flow; throws on the first fault.
const { Operator } = require(process.env.OPENDAL);
const assert = require("node:assert");
const crypto = require("node:crypto");
const [endpoint, account_name, account_key, container] = process.argv.slice(2);
const op = new Operator("azblob", { root: "/dal", endpoint, account_name, account_key, container });

const flows = {
  async write_and_read() {
    for (const [path, n] of [["empty", 0], ["one", 1], ["d/ü +&%25 x", 70000], ["big", 9 << 20]]) {
      const data = crypto.randomBytes(n);
      await op.write(path, data, { contentType: "a/b" });
      assert.ok((await op.read(path)).equals(data), path);
      const m = await op.stat(path);
      assert.deepStrictEqual([m.contentLength, m.contentType], [BigInt(n), "a/b"]);
    }
  },
  async ranges() {
    const data = crypto.randomBytes(300000);
    await op.write("ranges", data);
    for (const chunk of [65536, 65530, 100000, 299999])
      assert.ok((await op.read("ranges", { chunk, concurrent: 4 })).equals(data), `in pieces of ${chunk}`);
    const reader = await op.reader("ranges", { chunk: 70000 }), piece = Buffer.alloc(1000);
    for (let at = 0, n; at < data.length; at += n) {
      n = Number(await reader.read(piece));
      assert.ok(n > 0 && piece.subarray(0, n).equals(data.subarray(at, at + n)), `${n} at ${at}`);
    }
  },
  async blocks() {
    const parts = [0, 1, 2, 3].map(() => crypto.randomBytes(3 << 20));
    const writer = await op.writer("staged", { chunk: BigInt(2 << 20), concurrent: 4 });
    for (const part of parts) await writer.write(part);
    await writer.close();
    assert.ok((await op.read("staged")).equals(Buffer.concat(parts)));
  },
  async lists() {
    for (const n of ["l/a", "l/b/1", "l/b/2", "l/c"]) await op.write(n, "x");
    assert.deepStrictEqual((await op.list("l/")).map((e) => e.path()).sort(), ["l/a", "l/b/", "l/c"]);
    const all = await op.list("l/", { recursive: true, limit: 2 });
    assert.deepStrictEqual(all.map((e) => e.path()).sort(), ["l/a", "l/b/1", "l/b/2", "l/c"]);
  },
  async what_is_absent() {
    await assert.rejects(op.read("absent"), /NotFound/);
    await assert.rejects(op.stat("absent"), /NotFound/);
  },
  async copy() {
    const data = crypto.randomBytes(200000);
    await op.write("from", data);
    await op.copy("from", "to/copy");
    await op.delete("from");
    assert.ok((await op.read("to/copy")).equals(data));
    await assert.rejects(op.copy("from", "again"), /NotFound/);
  },
  async remove_all() {
    for (let i = 0; i < 20; i++) await op.write(`gone/${i % 3}/${i}`, "x");
    await op.write("gonenot", "x");
    await op.removeAll("gone/");
    assert.deepStrictEqual((await op.list("gone/", { recursive: true })).map((e) => e.path()), []);
    assert.strictEqual((await op.read("gonenot")).toString(), "x");
    await op.delete("never there");
  },
};
const append = {
  async append() {
    const parts = [1, 70000, 3 << 20].map((n) => crypto.randomBytes(n));
    for (const part of parts) await op.write("log", part, { append: true });
    assert.ok((await op.read("log")).equals(Buffer.concat(parts)));
  },
};
(async () => {
  for (const [n, f] of Object.entries(process.argv[6] === "append" ? append : flows)) { await f(); console.log("ok " + n); }
})().catch((e) => { console.error(e); process.exit(1); });
