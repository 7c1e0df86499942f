// Azure's Go SDK against a box: argv: endpoint account key container. Prints the SDK's version, then "ok NAME" per flow;
// ends with the first fault.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
)

var (
	ctx     = context.Background()
	client  *azblob.Client
	ctr     *container.Client
	name    string
	anyETag = to.Ptr(azcore.ETagAny)
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func equal[T comparable](what string, got, want T) {
	if got != want {
		panic(fmt.Sprintf("%s: got %v, want %v", what, got, want))
	}
}

func payload(n int, seed int64) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

func same(what string, got, want []byte) {
	if !bytes.Equal(got, want) {
		panic(fmt.Sprintf("%s: %d bytes differ from the %d wanted", what, len(got), len(want)))
	}
}

func whole(path string) []byte {
	answer := must(client.DownloadStream(ctx, name, path, nil))
	defer answer.Body.Close()
	return must(io.ReadAll(answer.NewRetryReader(ctx, nil)))
}

func refused(what string, err error, codes ...bloberror.Code) {
	if !bloberror.HasCode(err, codes...) {
		panic(fmt.Sprintf("%s: got %v, want %v", what, err, codes))
	}
}

func buffers() {
	for i, n := range []int{0, 1, 70000, 20<<20 + 5} {
		data, path := payload(n, int64(i)), fmt.Sprintf("go/buffer ü %d", n)
		_, err := client.UploadBuffer(ctx, name, path, data, &azblob.UploadBufferOptions{BlockSize: 4 << 20, Concurrency: 4,
			Metadata: map[string]*string{"Step": to.Ptr("7")}, HTTPHeaders: &blob.HTTPHeaders{BlobContentType: to.Ptr("a/b")}})
		check(err)
		p := must(ctr.NewBlobClient(path).GetProperties(ctx, nil))
		equal("length", int(*p.ContentLength), n)
		equal("type", *p.ContentType, "a/b")
		equal("metadata", *p.Metadata["Step"], "7")
		got := make([]byte, n)
		if n > 0 { // the SDK takes a count of 0 for "to the end"
			equal("read", must(client.DownloadBuffer(ctx, name, path, got, &azblob.DownloadBufferOptions{BlockSize: 3 << 20})), int64(n))
			same("in ranges", got, data)
		}
		same("at once", whole(path), data)
	}
}

func streams() {
	data := payload(9<<20+17, 5)
	check(second(client.UploadStream(ctx, name, "go/stream", io.MultiReader(bytes.NewReader(data)),
		&azblob.UploadStreamOptions{BlockSize: 1 << 20, Concurrency: 4})))
	same("stream", whole("go/stream"), data)
	list := must(ctr.NewBlockBlobClient("go/stream").GetBlockList(ctx, blockblob.BlockListTypeAll, nil))
	equal("blocks", len(list.CommittedBlocks), 10)
}

func second[T any](_ T, err error) error { return err }

func ranges() {
	data := payload(300000, 2)
	check(second(client.UploadBuffer(ctx, name, "go/ranges", data, nil)))
	for _, r := range [][2]int{{0, 1}, {65530, 100}, {299999, 1}, {131071, 131073}} {
		answer := must(client.DownloadStream(ctx, name, "go/ranges", &azblob.DownloadStreamOptions{
			Range: azblob.HTTPRange{Offset: int64(r[0]), Count: int64(r[1])}, RangeGetContentMD5: to.Ptr(true)}))
		same("range", must(io.ReadAll(answer.Body)), data[r[0]:r[0]+r[1]])
		equal("md5", len(answer.ContentMD5), 16)
	}
	_, err := client.DownloadStream(ctx, name, "go/ranges", &azblob.DownloadStreamOptions{Range: azblob.HTTPRange{Offset: 300000}})
	refused("past the end", err, bloberror.InvalidRange)
}

func lists() {
	var want, seen []string
	for i := range 7 {
		path := fmt.Sprintf("golist/%d/b&<%d>", i%2, i)
		want = append(want, path)
		check(second(client.UploadBuffer(ctx, name, path, []byte("x"), nil)))
	}
	slices.Sort(want)
	for pages := client.NewListBlobsFlatPager(name, &azblob.ListBlobsFlatOptions{Prefix: to.Ptr("golist/"),
		MaxResults: to.Ptr(int32(3)), Include: azblob.ListBlobsInclude{Metadata: true}}); pages.More(); {
		for _, item := range must(pages.NextPage(ctx)).Segment.BlobItems {
			seen = append(seen, *item.Name)
		}
	}
	equal("flat", strings.Join(seen, ","), strings.Join(want, ","))
	seen = nil
	for pages := ctr.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: to.Ptr("golist/"),
		MaxResults: to.Ptr(int32(1))}); pages.More(); {
		for _, item := range must(pages.NextPage(ctx)).Segment.BlobPrefixes {
			seen = append(seen, *item.Name)
		}
	}
	equal("prefixes", strings.Join(seen, ","), "golist/0/,golist/1/")
}

func conditions() {
	b := ctr.NewBlockBlobClient("go/conditions")
	body := func(s string) io.ReadSeekCloser { return nopCloser{strings.NewReader(s)} }
	put := func(s string, c blob.ModifiedAccessConditions) (blockblob.UploadResponse, error) {
		return b.Upload(ctx, body(s), &blockblob.UploadOptions{AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &c}})
	}
	first := must(put("1", blob.ModifiedAccessConditions{IfNoneMatch: anyETag}))
	_, err := put("2", blob.ModifiedAccessConditions{IfNoneMatch: anyETag})
	refused("again", err, bloberror.BlobAlreadyExists)
	must(put("2", blob.ModifiedAccessConditions{IfMatch: first.ETag}))
	_, err = put("3", blob.ModifiedAccessConditions{IfMatch: first.ETag})
	refused("old ETag", err, bloberror.ConditionNotMet)
	_, err = ctr.NewBlobClient("go/none").GetProperties(ctx, nil)
	refused("absent", err, bloberror.BlobNotFound)
	same("kept", whole("go/conditions"), []byte("2"))
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func copies() {
	data := payload(6<<20, 9)
	check(second(client.UploadBuffer(ctx, name, "go/source", data, nil)))
	source, target := ctr.NewBlobClient("go/source"), ctr.NewBlobClient("go/copy")
	started := must(target.StartCopyFromURL(ctx, source.URL(), nil))
	equal("status", *started.CopyStatus, blob.CopyStatusTypeSuccess)
	same("copy", whole("go/copy"), data)
	signed := must(source.GetSASURL(sas.BlobPermissions{Read: true}, time.Now().Add(time.Hour), nil))
	must(ctr.NewBlockBlobClient("go/put-from-url").UploadBlobFromURL(ctx, signed, nil))
	same("from URL", whole("go/put-from-url"), data)
	must(source.Delete(ctx, nil))
	same("without its source", whole("go/copy"), data)
	_, err := target.StartCopyFromURL(ctx, source.URL(), nil)
	refused("no source", err, bloberror.CannotVerifyCopySource)
}

func signatures() {
	check(second(client.UploadBuffer(ctx, name, "go/signed", []byte("signed"), nil)))
	signed := must(ctr.GetSASURL(sas.ContainerPermissions{Read: true, List: true}, time.Now().Add(time.Hour), nil))
	reader := must(container.NewClientWithNoCredential(signed, nil))
	answer := must(reader.NewBlobClient("go/signed").DownloadStream(ctx, nil))
	same("by SAS", must(io.ReadAll(answer.Body)), []byte("signed"))
	refused("delete", second(reader.NewBlobClient("go/signed").Delete(ctx, nil)), bloberror.AuthorizationPermissionMismatch)
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if strings.HasSuffix(m.Path, "/azblob") {
			return m.Version
		}
	}
	return "?"
}

func main() {
	if len(os.Args) != 5 {
		fmt.Println(version())
		return
	}
	name = os.Args[4]
	credential := must(azblob.NewSharedKeyCredential(os.Args[2], os.Args[3]))
	options := &azblob.ClientOptions{}
	options.Retry = policy.RetryOptions{MaxRetries: -1}
	client = must(azblob.NewClientWithSharedKeyCredential(os.Args[1], credential, options))
	ctr = client.ServiceClient().NewContainerClient(name)
	defer func() {
		if fault := recover(); fault != nil {
			err, _ := fault.(error)
			fmt.Fprintln(os.Stderr, fault, errors.Unwrap(err))
			os.Exit(1)
		}
	}()
	for _, flow := range []struct {
		name string
		run  func()
	}{{"buffers", buffers}, {"streams", streams}, {"ranges", ranges}, {"lists", lists}, {"conditions", conditions},
		{"copies", copies}, {"signatures", signatures}} {
		flow.run()
		fmt.Println("ok", flow.name)
	}
}
