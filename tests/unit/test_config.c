/* appliance.conf: grammar, errors with file, line and allowed range, what is not served yet, the
 * example. */
#include "tests/unit/unit.h"

#include <sys/stat.h>

#include "server/config.h"
#include "server/config_value.h"

static const char good[] =
    "data = \"/tmp/x\"\n"
    "listen = \"127.0.0.1:0\"\n"
    "memory = 512MiB\n"
    "device \"d0\" { path = \"/tmp/x/slab0\" size = 1GiB }\n"
    "account \"acct\" {\n"
    "  key = \"a2V5\"\n"
    "  aliases = { \"Acct.Blob.core.windows.net\", \"b\" }\n"
    "  upstream { endpoint = \"http://127.0.0.1:1/acct/\" auth = key key = \"a2V5\" }\n"
    "  contract \"ckpt/*\" { write = back markers = { \"latest\" } class = default }\n"
    "  contract \"*\" { write = deny fresh = immutable offline = fail lease = local }\n"
    "}\n"
    "account \"local\" { key = \"a2V5\" }\n";

static int load(const char *text, const char *const *overrides, unsigned n, struct config **ret,
                char **why)
{
    char path[] = "/tmp/hearth-conf-XXXXXX";
    int fd = mkstemp(path), rc;

    assert_true(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    rc = config_load(path, overrides, n, ret, why);
    unlink(path);
    return rc;
}

static void refused(const char *text, const char *want)
{
    struct config *config = NULL;
    _cleanup_(freep) char *why = NULL;

    assert_int_equal(load(text, NULL, 0, &config, &why), -EINVAL);
    if (!strstr(why, want))
        fail_msg("want \"%s\" in:\n%s", want, why);
    assert_null(config);
}

static void test_config__a_whole_file_becomes_a_config(void **state)
{
    static const char *const overrides[] = {"listen=127.0.0.1:7", "memory=1GiB"};
    struct config *config = NULL;
    _cleanup_(freep) char *why = NULL;
    const struct account *account;

    assert_int_equal(load(good, overrides, 2, &config, &why), 0);
    assert_string_equal(config->listen, "127.0.0.1:7");
    assert_true(config->memory == GIB(1));
    assert_int_equal(config->accounts.count, 2);
    account = &config->accounts.at[0];
    assert_span_equal(account->key[0], "key");
    assert_span_equal(account->aliases[0], "acct.blob.core.windows.net");
    assert_span_equal(account->upstream.endpoint, "http://127.0.0.1:1/acct");
    assert_int_equal(account->contract_count, 2);
    assert_int_equal(account->contracts[0].write, WRITE_BACK);
    assert_int_equal(account->contracts[0].class, CLASS_DEFAULT);
    assert_true(account->contracts[0].fresh_ns == 60000000000ULL);
    assert_int_equal(account->contracts[1].fresh, FRESH_IMMUTABLE);
    assert_int_equal(account->contracts[0].lease, LEASE_CLOUD); /* the default, with a cloud */
    assert_int_equal(account->contracts[1].lease, LEASE_LOCAL);
    assert_true(account_is_local(&config->accounts.at[1]));
    assert_int_equal(account->id, account_id(SPAN("acct"))); /* wherever it stands in the file */
    assert_int_equal(config->accounts.at[1].contracts[0].write, WRITE_LOCAL);
    assert_int_equal(config->accounts.at[1].contracts[0].lease, LEASE_LOCAL);
    config_free(config);
}

static void test_config__errors_name_file_line_and_what_is_allowed(void **state)
{
    refused("data = \"x\"\nmemory = 1\n", ":2: memory = 1: must be from 256MiB to 16TiB");
    refused("data = \"x\"\n\nmemory = much\n", ":3: memory = much: must be a size such as 64GiB");
    refused("listen = nowhere\n",
            ":1: listen = nowhere: must be host:port, for example 0.0.0.0:10000");
    refused("colour = red\n", "no such option 'colour'");
    refused("data = \"x\"\n", "there is no device");
    refused("data = \"x\"\ndevice \"a\" { size = 1GiB }\n", "device a has no path");
    refused("account \"a\" { contract \"*\" { write = sometimes } }\n",
            "must be one of through, back, local, deny");
}

static void test_config__lines_are_those_of_the_file(void **state)
{
    refused("# one\n/* two\n three */ // \"four\ndata = \"x # y\" # four\nmemory = 1\n",
            ":5: memory = 1: must");
    refused("account \"a\" { # \"\n key = 'a\\' # no comment' // but this\n contract \"*\" { write "
            "= x }\n}\n",
            ":3: write = x: must");
    refused("account \"a\" { upstream { endpoint = https://x.y auth = key } colour = red }\n",
            ":1: no such option 'colour'");
    refused("", ":1: there is no device");
    refused("data = \"x\" # never ends", ":1: there is no device");
}

static void test_config__an_override_is_named_and_taken_as_it_is(void **state)
{
    static const char *const wrong[] = {"loops=999", "colour=red", "listen"};
    static const char *const odd = "data=/tmp/\\n${HOME}\"x";
    struct config *config = NULL;
    char *why = NULL;

    assert_int_equal(load(good, wrong, 3, &config, &why), -EINVAL);
    assert_string_equal(why,
                        "-o loops=999: loops = 999: must be from 0 to 256\n"
                        "-o colour=red: must be KEY=VALUE with a top-level key of appliance.conf\n"
                        "-o listen: must be KEY=VALUE with a top-level key of appliance.conf");
    free(why);
    assert_int_equal(load("data = \"x\"\n\n\n", &odd, 1, &config, &why), -EINVAL);
    assert_non_null(strstr(why, ":4: there is no device"));
    assert_null(strstr(why, "[buf]"));
    free(why);
    assert_int_equal(load(good, &odd, 1, &config, &why), 0);
    assert_string_equal(config->data, odd + 5);
    config_free(config);
}

static void test_config__what_is_not_served_yet_is_named(void **state)
{
    refused("account \"a\" {\n contract \"*\" { write = through }\n}\n",
            ":2: write = through is not served yet by this version");
    refused("account \"a\" { contract \"*\" { write = local lease = cloud } }\n",
            "lease = cloud: no cloud hears of what this scope has");
    refused("account \"a\" { contract \"*\" { fresh = strict } }\n",
            "fresh = strict is not served yet");
    refused("account \"a\" { contract \"*\" { class = kv } }\n", "class = kv is not served yet");
    refused("account \"a\" { contract \"*\" { ttl = 1h } }\n", "ttl = 1h is not served yet");
    refused("account \"a\" { public_access = yes\n upstream { endpoint = \"https://x.y\" } }\n",
            "public_access = yes is not served yet for an account with an upstream");
    refused("require_encrypted = yes\n", "require_encrypted = yes is not served yet");
}

static void test_config__the_same_pattern_twice_is_refused(void **state)
{
    refused("account \"a\" { contract \"x\" { write = deny }\n contract \"x\" { write = back } }\n",
            "x");
}

static void test_config__accounts_can_be_told_apart(void **state)
{
#define ACCOUNT(name, more) "account \"" name "\" { key = \"a2V5\" " more " }\n"
#define BOX                 "data = \"/tmp/x\"\ndevice \"d\" { path = \"/tmp/x/d\" size = 1GiB }\n"
    refused(BOX ACCOUNT("a", "aliases = { \"h\" }") ACCOUNT("b", "aliases = { \"x\", \"H\" }"),
            "alias h is of account a and of account b");
    refused(BOX ACCOUNT("a/b", ""), "account \"a/b\": must be lower-case letters and digits");
    refused(BOX ACCOUNT("", ""), "account \"\": must be");
    refused(BOX ACCOUNT("a", "contract \"*\" { write = deny }\n contract \"x\" { write = deny }"),
            "account a: contract \"*\" matches everything, so it must be the last");
}

static void test_config__a_secret_others_can_read_is_refused(void **state)
{
    char path[] = "/tmp/hearth-key-XXXXXX";
    _cleanup_(freep) char *value = NULL, *why = NULL;
    struct arena *arena = arena_new();
    struct span key;
    int fd = mkstemp(path);

    assert_true(write(fd, "a2V5\n", 5) == 5);
    value = xasprintf("file:%s", path);
    assert_int_equal(config_secret(arena, value, true, &key, &why), 0);
    assert_span_equal(key, "key");
    assert_int_equal(fchmod(fd, 0644), 0);
    assert_int_equal(config_secret(arena, value, true, &key, &why), -EACCES);
    assert_non_null(strstr(why, "chmod 600"));
    close(fd);
    unlink(path);
    arena_free(arena);
}

static void test_config__upstream_knows_the_file_its_secret_came_from(void **state)
{
    static const char form[] =
        "data = \"/tmp/x\"\ndevice \"d\" { path = \"/tmp/x/d\" size = 1GiB }\n"
        "account \"a\" { key = \"a2V5\"\n upstream { endpoint = \"http://c\" auth = sas "
        "sas = \"%s%s\" }\n contract \"*\" { write = deny } }\n";
    char path[] = "/tmp/hearth-sas-XXXXXX";
    int fd = mkstemp(path);

    assert_true(write(fd, "?sig=1\n", 7) == 7);
    close(fd);
    for (int inlined = 0; inlined < 2; inlined++) {
        _cleanup_(freep) char *text =
            inlined ? xasprintf(form, "", "sig=1") : xasprintf(form, "file:", path);
        _cleanup_(freep) char *why = NULL;
        struct config *config = NULL;

        assert_int_equal(load(text, NULL, 0, &config, &why), 0);
        assert_span_equal(config->accounts.at[0].upstream.sas, "sig=1");
        assert_span_equal(config->accounts.at[0].upstream.secret_file, inlined ? "" : path);
        config_free(config);
    }
    unlink(path);
}

static void test_config__the_example_is_what_the_table_makes(void **state)
{
    _cleanup_(freep) char *made = NULL;
    char file[65536];
    size_t len, n;
    FILE *out = open_memstream(&made, &len), *in = fopen("appliance.conf.example", "r");

    config_print_example(out);
    fclose(out);
    assert_non_null(in);
    n = fread(file, 1, sizeof(file) - 1, in);
    file[n] = 0;
    fclose(in);
    assert_string_equal(file, made);
}

static void test_config__every_default_and_example_of_the_table_is_allowed(void **state)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        const char *values[] = {row->fallback, row->example};

        for (unsigned v = 0; v < 2; v++)
            if (*values[v] && config_value_check(row, values[v]))
                fail_msg("%s = %s", row->key, values[v]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config__a_whole_file_becomes_a_config),
        cmocka_unit_test(test_config__errors_name_file_line_and_what_is_allowed),
        cmocka_unit_test(test_config__lines_are_those_of_the_file),
        cmocka_unit_test(test_config__an_override_is_named_and_taken_as_it_is),
        cmocka_unit_test(test_config__what_is_not_served_yet_is_named),
        cmocka_unit_test(test_config__the_same_pattern_twice_is_refused),
        cmocka_unit_test(test_config__accounts_can_be_told_apart),
        cmocka_unit_test(test_config__a_secret_others_can_read_is_refused),
        cmocka_unit_test(test_config__upstream_knows_the_file_its_secret_came_from),
        cmocka_unit_test(test_config__the_example_is_what_the_table_makes),
        cmocka_unit_test(test_config__every_default_and_example_of_the_table_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
