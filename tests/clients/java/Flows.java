// Azure's Java SDK against a box: argv: endpoint account key container folder. Prints "ok NAME" per flow; ends with the first
// fault.
import com.azure.core.http.rest.Response;
import com.azure.core.util.BinaryData;
import com.azure.storage.blob.BlobClient;
import com.azure.storage.blob.BlobContainerClient;
import com.azure.storage.blob.BlobServiceClientBuilder;
import com.azure.storage.blob.models.*;
import com.azure.storage.blob.options.*;
import com.azure.storage.blob.sas.*;
import com.azure.storage.common.StorageSharedKeyCredential;
import com.azure.storage.common.policy.RequestRetryOptions;
import com.azure.storage.common.policy.RetryPolicyType;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.OffsetDateTime;
import java.util.*;

public class Flows {
    static BlobContainerClient container;
    static Path folder;

    interface Flow { void run() throws Exception; }

    static byte[] payload(int n, long seed) {
        byte[] b = new byte[n];
        new Random(seed).nextBytes(b);
        return b;
    }

    static void equal(String what, Object got, Object want) {
        if (!Objects.equals(got, want)) throw new AssertionError(what + ": got " + got + ", want " + want);
    }

    static void same(String what, byte[] got, byte[] want) {
        if (!Arrays.equals(got, want)) throw new AssertionError(what + ": " + got.length + " bytes differ from the " + want.length);
    }

    static void refused(String code, Flow flow) throws Exception {
        try {
            flow.run();
        } catch (BlobStorageException e) {
            equal("refusal", String.valueOf(e.getErrorCode()), code);
            return;
        }
        throw new AssertionError("not refused with " + code);
    }

    static void uploads() {
        for (int n : new int[] {0, 1, 70000, (9 << 20) + 5}) {
            BlobClient blob = container.getBlobClient("java/ü " + n);
            byte[] data = payload(n, n);
            ParallelTransferOptions parallel = new ParallelTransferOptions().setBlockSizeLong(2L << 20).setMaxConcurrency(4)
                .setMaxSingleUploadSizeLong(1L << 20);
            blob.uploadWithResponse(new BlobParallelUploadOptions(BinaryData.fromBytes(data)).setParallelTransferOptions(parallel)
                .setMetadata(Map.of("step", "7")).setHeaders(new BlobHttpHeaders().setContentType("a/b")), null, null);
            BlobProperties p = blob.getProperties();
            equal("length", p.getBlobSize(), (long) n);
            equal("properties", List.of(p.getContentType(), p.getMetadata()), List.of("a/b", Map.of("step", "7")));
            same("content", blob.downloadContent().toBytes(), data);
        }
    }

    static void streams() throws Exception {
        BlobClient blob = container.getBlobClient("java/stream");
        byte[] data = payload(6 << 20, 1);
        try (OutputStream out = blob.getBlockBlobClient().getBlobOutputStream(new ParallelTransferOptions().setBlockSizeLong(1L << 20),
                null, null, null, null)) {
            for (int at = 0; at < data.length; at += 100000) out.write(data, at, Math.min(100000, data.length - at));
        }
        try (var in = blob.openInputStream()) {
            same("read back", in.readAllBytes(), data);
        }
        equal("blocks", blob.getBlockBlobClient().listBlocks(BlockListType.ALL).getUncommittedBlocks().size(), 0);
    }

    static void files() throws Exception {
        Path up = folder.resolve("up"), down = folder.resolve("down");
        Files.write(up, payload(11 << 20, 2));
        BlobClient blob = container.getBlobClient("java/file");
        blob.uploadFromFile(up.toString(), new ParallelTransferOptions().setBlockSizeLong(4L << 20), null, null, null, null, null);
        blob.downloadToFileWithResponse(new BlobDownloadToFileOptions(down.toString())
            .setParallelTransferOptions(new com.azure.storage.common.ParallelTransferOptions().setBlockSizeLong(3L << 20)), null, null);
        same("file", Files.readAllBytes(down), Files.readAllBytes(up));
        ByteArrayOutputStream part = new ByteArrayOutputStream();
        blob.downloadStreamWithResponse(part, new BlobRange(65530, 100L), null, null, true, null, null);
        same("range", part.toByteArray(), Arrays.copyOfRange(payload(11 << 20, 2), 65530, 65630));
    }

    static void lists() {
        List<String> want = new ArrayList<>(), flat = new ArrayList<>(), folders = new ArrayList<>();
        for (int i = 0; i < 7; i++) {
            want.add("jlist/" + i % 2 + "/b&<" + i + ">");
            container.getBlobClient(want.get(i)).upload(BinaryData.fromString("x"));
        }
        Collections.sort(want);
        ListBlobsOptions options = new ListBlobsOptions().setPrefix("jlist/").setMaxResultsPerPage(2);
        container.listBlobs(options, null).forEach(b -> flat.add(b.getName()));
        container.listBlobsByHierarchy("/", options, null).forEach(b -> folders.add(b.getName()));
        equal("flat", flat, want);
        equal("folders", folders, List.of("jlist/0/", "jlist/1/"));
    }

    static void conditions() throws Exception {
        BlobClient blob = container.getBlobClient("java/conditions");
        blob.upload(BinaryData.fromString("1"));
        refused("BlobAlreadyExists", () -> blob.upload(BinaryData.fromString("2")));
        String etag = blob.getProperties().getETag();
        BlobRequestConditions match = new BlobRequestConditions().setIfMatch(etag);
        Response<?> second = blob.uploadWithResponse(
            new BlobParallelUploadOptions(BinaryData.fromString("2")).setRequestConditions(match), null, null);
        equal("status", second.getStatusCode(), 201);
        refused("ConditionNotMet", () ->
            blob.uploadWithResponse(new BlobParallelUploadOptions(BinaryData.fromString("3")).setRequestConditions(match), null, null));
        equal("kept", blob.downloadContent().toString(), "2");
        equal("absent", container.getBlobClient("java/none").exists(), false);
        refused("BlobNotFound", () -> container.getBlobClient("java/none").downloadContent());
    }

    static void copies() {
        byte[] data = payload(3 << 20, 4);
        BlobClient source = container.getBlobClient("java/source"), target = container.getBlobClient("java/copy");
        source.upload(new ByteArrayInputStream(data));
        equal("copy", target.beginCopy(source.getBlobUrl(), null).poll().getValue().getCopyStatus(), CopyStatusType.SUCCESS);
        String sas = source.generateSas(new BlobServiceSasSignatureValues(OffsetDateTime.now().plusHours(1),
            new BlobSasPermission().setReadPermission(true)));
        container.getBlobClient("java/from-url").getBlockBlobClient().uploadFromUrl(source.getBlobUrl() + "?" + sas);
        source.delete();
        equal("again", source.deleteIfExists(), false);
        same("copy", target.downloadContent().toBytes(), data);
        same("from URL", container.getBlobClient("java/from-url").downloadContent().toBytes(), data);
    }

    public static void main(String[] argv) {
        container = new BlobServiceClientBuilder().endpoint(argv[0]).credential(new StorageSharedKeyCredential(argv[1], argv[2]))
            .retryOptions(new RequestRetryOptions(RetryPolicyType.FIXED, 1, (java.time.Duration) null, null, null, null))
            .buildClient().getBlobContainerClient(argv[3]);
        folder = Path.of(argv[4]);
        Map<String, Flow> flows = new LinkedHashMap<>();
        flows.put("uploads", Flows::uploads);
        flows.put("streams", Flows::streams);
        flows.put("files", Flows::files);
        flows.put("lists", Flows::lists);
        flows.put("conditions", Flows::conditions);
        flows.put("copies", Flows::copies);
        try {
            for (var flow : flows.entrySet()) {
                flow.getValue().run();
                System.out.println("ok " + flow.getKey());
            }
        } catch (Throwable fault) {
            fault.printStackTrace();
            System.exit(1);
        }
        System.exit(0); // not waiting for netty's threads
    }
}
