/* server/config.c - appliance.conf by libconfuse: every value is checked while its line is known,
 * then the tree becomes a struct config. */
#include "server/config.h"

#include <confuse.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "server/config_value.h"

#define SECTION_KEYS_MAX 32
#define SECTION_NAMES                                                                              \
    {                                                                                              \
        "root", "tls", "entra", "device", "account", "upstream", "contract"                        \
    }

static const char *const section_names[CONFIG_SECTIONS] = SECTION_NAMES;

/* libconfuse calls back without an argument: one load at a time, on the main thread. */
static struct {
    FILE *errors;
    unsigned count;
    bool inline_secret;
    const char *override; /* the -o being applied: what an error is of, instead of file and line */
} loading;

__attribute__((format(printf, 2, 0))) static void on_error(cfg_t *cfg, const char *format,
                                                           va_list args)
{
    fputs(loading.count ? "\n" : "", loading.errors);
    if (loading.override)
        fprintf(loading.errors, "-o %s: ", loading.override);
    else
        fprintf(loading.errors, "%s:%d: ", cfg && cfg->filename ? cfg->filename : "appliance.conf",
                cfg ? cfg->line : 0);
    vfprintf(loading.errors, format, args);
    loading.count++;
}

static const struct config_row *row_find(const char *section, const char *key)
{
    for (unsigned i = 0; i < config_row_count; i++)
        if (strcmp(section_names[config_rows[i].section], section) == 0 &&
            strcmp(config_rows[i].key, key) == 0)
            return &config_rows[i];
    return NULL;
}

static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    const struct config_row *row = row_find(cfg->name, opt->name);
    _cleanup_(freep) char *wrong = config_value_check(row, value);

    if (wrong)
        cfg_error(cfg, "%s", wrong);
    *(const char **)result = value; /* go on: all errors of a file are told at once */
    return 0;
}

/* ---- the option tree libconfuse parses by ---- */

static void opts_fill(enum config_section section, cfg_opt_t *opts, unsigned *n)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->section != section)
            continue;
        assert(*n < SECTION_KEYS_MAX - 4);
        if (row->kind == CONFIG_LIST)
            opts[(*n)++] = (cfg_opt_t)CFG_STR_LIST_CB(row->key, NULL, CFGF_NODEFAULT, on_value);
        else
            opts[(*n)++] = (cfg_opt_t)CFG_STR_CB(row->key, row->fallback, CFGF_NONE, on_value);
    }
}

static cfg_t *tree_new(void)
{
    static cfg_opt_t opts[CONFIG_SECTIONS][SECTION_KEYS_MAX]; /* cfg_init copies them */
    unsigned n[CONFIG_SECTIONS] = {0};

    for (unsigned s = 0; s < CONFIG_SECTIONS; s++)
        opts_fill(s, opts[s], &n[s]);
    opts[CONFIG_ACCOUNT][n[CONFIG_ACCOUNT]++] =
        (cfg_opt_t)CFG_SEC("upstream", opts[CONFIG_UPSTREAM], CFGF_NODEFAULT);
    opts[CONFIG_ACCOUNT][n[CONFIG_ACCOUNT]++] = (cfg_opt_t)CFG_SEC(
        "contract", opts[CONFIG_CONTRACT], CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
    opts[CONFIG_ROOT][n[CONFIG_ROOT]++] =
        (cfg_opt_t)CFG_SEC("tls", opts[CONFIG_TLS], CFGF_NODEFAULT);
    opts[CONFIG_ROOT][n[CONFIG_ROOT]++] =
        (cfg_opt_t)CFG_SEC("entra", opts[CONFIG_ENTRA], CFGF_NODEFAULT);
    opts[CONFIG_ROOT][n[CONFIG_ROOT]++] = (cfg_opt_t)CFG_SEC(
        "device", opts[CONFIG_DEVICE], CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
    opts[CONFIG_ROOT][n[CONFIG_ROOT]++] = (cfg_opt_t)CFG_SEC(
        "account", opts[CONFIG_ACCOUNT], CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
    for (unsigned s = 0; s < CONFIG_SECTIONS; s++)
        opts[s][n[s]] = (cfg_opt_t)CFG_END();
    return cfg_init(opts[CONFIG_ROOT], CFGF_NONE);
}

/* ---- tree -> struct config ---- */

static const char *text_of(cfg_t *cfg, const char *key)
{
    const char *text = cfg_getstr(cfg, key);

    return text ? text : "";
}

/* A value on_value let through parses; one that was never given is "" and leaves the zero. */
static void given(int err)
{
    assert(err == 0 || err == -EINVAL);
}

static uint64_t size_of(cfg_t *cfg, const char *key)
{
    uint64_t v = 0;

    given(config_parse_size(text_of(cfg, key), &v));
    return v;
}

static unsigned count_of(cfg_t *cfg, const char *key)
{
    uint64_t v = 0;

    given(span_to_u64(span_of(text_of(cfg, key)), &v));
    return (unsigned)v;
}

static uint64_t duration_of(cfg_t *cfg, const char *key)
{
    uint64_t v = 0;

    given(config_parse_duration(text_of(cfg, key), &v));
    return v;
}

static unsigned choice_of(cfg_t *cfg, const char *key)
{
    const struct config_row *row = row_find(cfg->name, key);
    bool served;
    int i = config_choice(row->allowed, text_of(cfg, key), &served);

    return i < 0 ? 0 : (unsigned)i;
}

static struct span copy_of(struct config *config, cfg_t *cfg, const char *key)
{
    const char *text = text_of(cfg, key);

    return *text ? arena_copy(config->arena, span_of(text)) : (struct span){NULL, 0};
}

static char *string_of(struct config *config, cfg_t *cfg, const char *key) /* NULL when not given */
{
    return (char *)copy_of(config, cfg, key).base;
}

static void require(cfg_t *cfg, const char *key)
{
    if (!*text_of(cfg, key))
        cfg_error(cfg, "%s%s%s has no %s", cfg->name, cfg_title(cfg) ? " " : "",
                  cfg_title(cfg) ? cfg_title(cfg) : "", key);
}

static void secret_of(struct config *config, cfg_t *cfg, const char *key, bool base64,
                      struct span *ret)
{
    _cleanup_(freep) char *why = NULL;

    *ret = (struct span){NULL, 0};
    loading.inline_secret |= *text_of(cfg, key) && strncmp(text_of(cfg, key), "file:", 5) != 0;
    if (*text_of(cfg, key) &&
        config_secret(config->arena, text_of(cfg, key), base64, ret, &why) < 0)
        cfg_error(cfg, "%s: %s", key, why);
}

static unsigned list_of(struct config *config, cfg_t *cfg, const char *key, bool lower,
                        const struct span **ret)
{
    unsigned n = cfg_size(cfg, key);
    struct span *list = arena_alloc(config->arena, n * sizeof(*list));

    for (unsigned i = 0; i < n; i++) {
        list[i] = arena_copy(config->arena, span_of(cfg_getnstr(cfg, key, i)));
        for (char *c = (char *)list[i].base; lower && *c; c++)
            *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    }
    *ret = list;
    return n;
}

static uint32_t contract_ids; /* process-wide, from 1; a load starts anew */

static enum contract_lease lease_build(cfg_t *cfg, const struct contract *contract)
{
    const char *text = text_of(cfg, "lease");
    bool ours = contract->write == WRITE_LOCAL || contract->fresh == FRESH_EXCLUSIVE;

    if (strcmp(text, "cloud") == 0 && contract->write == WRITE_LOCAL) {
        cfg_error(cfg, "lease = cloud: no cloud hears of what this scope has");
        return LEASE_LOCAL;
    }
    if (*text)
        return strcmp(text, "local") == 0 ? LEASE_LOCAL : LEASE_CLOUD;
    return ours ? LEASE_LOCAL : LEASE_CLOUD;
}

static void contract_build(struct config *config, cfg_t *cfg, bool local, struct contract *ret)
{
    static const enum contract_write writes[] = {WRITE_THROUGH, WRITE_BACK, WRITE_LOCAL,
                                                 WRITE_DENY};

    require(cfg, "write");
    *ret = (struct contract){.id = ++contract_ids,
                             .pattern = arena_copy(config->arena, span_of(cfg_title(cfg))),
                             .write = writes[choice_of(cfg, "write")],
                             .offline = choice_of(cfg, "offline"),
                             .order = choice_of(cfg, "order"),
                             .conflict = choice_of(cfg, "conflict"),
                             .copies = count_of(cfg, "copies"),
                             .class = choice_of(cfg, "class"),
                             .crash = choice_of(cfg, "crash"),
                             .md5 = strcmp(text_of(cfg, "md5"), "yes") == 0};
    given(config_parse_fresh(text_of(cfg, "fresh"), &ret->fresh, &ret->fresh_ns));
    if (ret->copies > 1)
        cfg_error(cfg, "copies = %u is not served yet by this version", ret->copies);
    ret->absent_ns = ret->fresh_ns;
    ret->marker_count = list_of(config, cfg, "markers", false, &ret->markers);
    if (local && ret->write == WRITE_BACK)
        ret->write = WRITE_LOCAL; /* there is no cloud to write back to */
    ret->lease = lease_build(cfg, ret);
}

/* Ends in a line that matches everything, so that contract_for always finds one. */
static void contracts_build(struct config *config, cfg_t *cfg, bool local, struct account *account)
{
    unsigned n = cfg_size(cfg, "contract");
    struct contract *contracts = arena_zalloc(config->arena, (n + 1) * sizeof(*contracts));

    for (unsigned i = 0; i < n; i++) {
        contract_build(config, cfg_getnsec(cfg, "contract", i), local, &contracts[i]);
        if (i + 1 < n && span_eq(contracts[i].pattern, SPAN("*")))
            cfg_error(cfg, "account %s: contract \"*\" matches everything, so it must be the last",
                      cfg_title(cfg));
    }
    account->contracts = contracts;
    account->contract_count = n;
    if (n && span_eq(contracts[n - 1].pattern, SPAN("*")))
        return;
    if (!local)
        cfg_error(cfg, "account %s: its last contract must be contract \"*\" { write = ... }",
                  cfg_title(cfg));
    contracts[n] = (struct contract){.id = ++contract_ids,
                                     .pattern = SPAN("*"),
                                     .write = WRITE_LOCAL,
                                     .lease = LEASE_LOCAL,
                                     .copies = 1,
                                     .md5 = true};
    account->contract_count++;
}

/* The file upstream reads again when the cloud says that the secret has expired; none if it is
 * inline. */
static struct span secret_file(struct config *config, cfg_t *cfg, const char *key)
{
    struct span file = copy_of(config, cfg, key);

    return span_starts(file, SPAN("file:")) ? span_skip(file, 5) : (struct span){NULL, 0};
}

static struct span endpoint_of(struct config *config, cfg_t *cfg, const char *key)
{
    struct span endpoint = copy_of(config, cfg, key);

    if (endpoint.len && !span_starts(endpoint, SPAN("http://")) &&
        !span_starts(endpoint, SPAN("https://")))
        cfg_error(cfg, "%s = %.*s: must be http://... or https://...", key, SPAN_FMT(endpoint));
    while (endpoint.len && endpoint.base[endpoint.len - 1] == '/')
        endpoint.len--;
    return endpoint;
}

static void upstream_build(struct config *config, cfg_t *cfg, struct account *account)
{
    const char *secret;

    require(cfg, "endpoint");
    account->upstream.endpoint = endpoint_of(config, cfg, "endpoint");
    account->upstream.formerly = endpoint_of(config, cfg, "formerly");
    account->upstream.auth = choice_of(cfg, "auth") == 0 ? UPSTREAM_SAS : UPSTREAM_SHARED_KEY;
    secret = account->upstream.auth == UPSTREAM_SAS ? "sas" : "key";
    require(cfg, secret);
    account->upstream.secret_file = secret_file(config, cfg, secret);
    account->upstream.account = copy_of(config, cfg, "account");
    if (!account->upstream.account.len)
        account->upstream.account = account->name;
    secret_of(config, cfg, "key", true, &account->upstream.key);
    secret_of(config, cfg, "sas", false, &account->upstream.sas);
    if (span_starts(account->upstream.sas, SPAN("?")))
        account->upstream.sas = span_skip(account->upstream.sas, 1);
    account->upstream.ca_file = copy_of(config, cfg, "ca");
}

static void account_build(struct config *config, cfg_t *cfg, struct account *ret)
{
    bool local = cfg_size(cfg, "upstream") == 0;
    struct span name = arena_copy(config->arena, span_of(cfg_title(cfg)));

    *ret = (struct account){.id = account_id(name), .name = name};
    require(cfg, "key");
    secret_of(config, cfg, "key", true, &ret->key[0]);
    secret_of(config, cfg, "key2", true, &ret->key[1]);
    ret->alias_count = list_of(config, cfg, "aliases", true, &ret->aliases);
    ret->public_access = strcmp(text_of(cfg, "public_access"), "yes") == 0;
    if (ret->public_access && !local) /* whether a container is public is the cloud's to say */
        cfg_error(cfg, "public_access = yes is not served yet for an account with an upstream");
    if (!local)
        upstream_build(config, cfg_getsec(cfg, "upstream"), ret);
    contracts_build(config, cfg, local, ret);
}

/* Can requests and rows tell it from those before it? */
static void account_check(cfg_t *cfg, const struct accounts *before, const struct account *account)
{
    const struct account *same = account_by_id(before, account->id);
    size_t plain =
        account->name.len ? strspn(account->name.base, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;

    if (!plain || plain != account->name.len)
        cfg_error(cfg, "account \"%.*s\": must be lower-case letters and digits",
                  SPAN_FMT(account->name));
    if (same) /* one in 4 billion */
        cfg_error(cfg, "accounts %.*s and %.*s cannot be told apart: rename one",
                  SPAN_FMT(same->name), SPAN_FMT(account->name));
    for (unsigned i = 0; i < account->alias_count; i++)
        if ((same = account_by_alias(before, account->aliases[i])))
            cfg_error(cfg, "alias %.*s is of account %.*s and of account %.*s",
                      SPAN_FMT(account->aliases[i]), SPAN_FMT(same->name), SPAN_FMT(account->name));
}

static void accounts_build(struct config *config, cfg_t *cfg)
{
    unsigned n = cfg_size(cfg, "account");
    struct account *accounts = arena_zalloc(config->arena, n * sizeof(*accounts));

    contract_ids = 0;
    if (n == 0)
        cfg_error(cfg, "there is no account: add account \"NAME\" { key = ... }");
    for (unsigned i = 0; i < n; i++) {
        account_build(config, cfg_getnsec(cfg, "account", i), &accounts[i]);
        account_check(cfg, &(struct accounts){accounts, i}, &accounts[i]);
    }
    config->accounts = (struct accounts){accounts, n};
}

static void devices_build(struct config *config, cfg_t *cfg)
{
    unsigned n = cfg_size(cfg, "device");

    if (n == 0)
        cfg_error(cfg, "there is no device: add device \"NAME\" { path = ... size = ... }");
    config->devices = arena_zalloc(config->arena, n * sizeof(*config->devices));
    config->device_count = n;
    for (unsigned i = 0; i < n; i++) {
        cfg_t *device = cfg_getnsec(cfg, "device", i);

        require(device, "path");
        require(device, "size");
        config->devices[i] =
            (struct device_conf){arena_copy(config->arena, span_of(cfg_title(device))),
                                 copy_of(config, device, "path"), size_of(device, "size")};
    }
}

static void tls_build(struct config *config, cfg_t *cfg)
{
    cfg_t *tls = cfg_size(cfg, "tls") ? cfg_getsec(cfg, "tls") : NULL;
    struct stat st;

    if (!tls)
        return;
    require(tls, "cert");
    require(tls, "key");
    config->tls_cert = string_of(config, tls, "cert");
    config->tls_key = string_of(config, tls, "key");
    if (config->tls_key && stat(config->tls_key, &st) == 0 && (st.st_mode & 077))
        cfg_error(tls, "key: others can read %s: chmod 600 it", config->tls_key);
}

static void grants_build(struct config *config, cfg_t *cfg)
{
    struct identity_grant *grants;
    unsigned n = 0;

    for (unsigned i = 0; i < cfg_size(cfg, "account"); i++)
        n += cfg_size(cfg_getnsec(cfg, "account", i), "grants");
    config->identity.grants = grants = arena_zalloc(config->arena, n * sizeof(*grants));
    for (unsigned i = 0; i < cfg_size(cfg, "account"); i++) {
        cfg_t *account = cfg_getnsec(cfg, "account", i);
        const struct span *lines;
        unsigned count = list_of(config, account, "grants", false, &lines);

        for (unsigned k = 0; k < count; k++) {
            struct identity_grant *grant = &grants[config->identity.grant_count++];
            const char *wrong;

            grant->account = config->accounts.at[i].id;
            wrong = identity_grant_parse(lines[k], grant);
            if (wrong)
                cfg_error(account, "grants: \"%.*s\": %s", SPAN_FMT(lines[k]), wrong);
        }
    }
}

static void entra_build(struct config *config, cfg_t *cfg)
{
    cfg_t *entra = cfg_size(cfg, "entra") ? cfg_getsec(cfg, "entra") : NULL;
    struct identity_conf *to = &config->identity;

    to->revoked = string_of(config, cfg, "revoked");
    to->data = config->data;
    grants_build(config, cfg);
    if (!entra)
        return;
    require(entra, "tenant");
    to->tenant = copy_of(config, entra, "tenant");
    to->jwks = string_of(config, entra, "jwks");
    to->issuers.count = list_of(config, entra, "issuers", false, &to->issuers.at);
    to->audiences.count = list_of(config, entra, "audiences", false, &to->audiences.at);
    to->storage_audience = strcmp(text_of(entra, "storage_audience"), "yes") == 0;
    to->delegation_keys = string_of(config, entra, "delegation_keys");
    secret_of(config, entra, "delegation_secret", true, &to->delegation_secret);
    for (unsigned i = 0; i < to->issuers.count; i++)
        if (!to->issuers.at[i].len)
            cfg_error(entra, "issuers: one of them is empty");
    for (unsigned i = 0; i < to->audiences.count; i++)
        if (!to->audiences.at[i].len)
            cfg_error(entra, "audiences: one of them is empty");
    if (to->jwks && !to->audiences.count && !to->storage_audience)
        cfg_error(entra, "entra has no audiences: add audiences = { ... }, or storage_audience = "
                         "yes");
}

static void copy_policy_build(struct config *config, cfg_t *cfg)
{
    struct copy_policy *policy = &config->copy_policy;
    unsigned origins = cfg_size(cfg, "copy_sources");
    unsigned networks = cfg_size(cfg, "copy_source_networks");
    struct origin *origin = arena_alloc(config->arena, origins * sizeof(*origin));
    struct network *network = arena_alloc(config->arena, networks * sizeof(*network));

    for (unsigned i = 0; i < origins; i++)
        if (origin_parse(span_of(cfg_getnstr(cfg, "copy_sources", i)), config->arena, &origin[i]))
            cfg_error(cfg, "copy_sources: %s is not scheme://host[:port]",
                      cfg_getnstr(cfg, "copy_sources", i));
    for (unsigned i = 0; i < networks; i++)
        if (network_parse(span_of(cfg_getnstr(cfg, "copy_source_networks", i)), &network[i]))
            cfg_error(cfg,
                      "copy_source_networks: %s is not ADDRESS/BITS with nothing below the bits",
                      cfg_getnstr(cfg, "copy_source_networks", i));
    *policy = (struct copy_policy){origin, origins, network, networks};
}

static void config_build(struct config *config, cfg_t *cfg)
{
    static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR};

    require(cfg, "data");
    config->listen = string_of(config, cfg, "listen");
    config->admin = string_of(config, cfg, "admin");
    config->data = string_of(config, cfg, "data");
    config->memory = size_of(cfg, "memory");
    config->loops = count_of(cfg, "loops");
    config->workers = count_of(cfg, "workers");
    config->connections_max = count_of(cfg, "connections_max");
    config->io = choice_of(cfg, "io");
    config->access_log = strcmp(text_of(cfg, "access_log"), "yes") == 0;
    config->log_level = levels[choice_of(cfg, "log_level")];
    config->head_timeout_ns = duration_of(cfg, "head_timeout");
    config->body_idle_timeout_ns = duration_of(cfg, "body_idle_timeout");
    config->write_stall_timeout_ns = duration_of(cfg, "write_stall_timeout");
    config->keepalive_timeout_ns = duration_of(cfg, "keepalive_timeout");
    config->drain_timeout_ns = duration_of(cfg, "drain_timeout");
    config->staged_ttl_ns = duration_of(cfg, "staged_ttl");
    copy_policy_build(config, cfg);
    tls_build(config, cfg);
    devices_build(config, cfg);
    accounts_build(config, cfg);
    entra_build(config, cfg);
}

/* ---- the file, the command line ---- */

static char *quoted_end(char *at) /* at a quote: behind the one that closes it */
{
    char quote = *at++;

    while (*at && *at != quote)
        at += *at == '\\' && at[1] ? 2 : 1;
    return *at ? at + 1 : at;
}

static bool token_starts(const char *text, const char *at) /* else https://... would be cut short */
{
    return at == text || strchr(" \t\r\n{}=,()+", at[-1]);
}

/* libconfuse 3.3 counts the lines of comments twice and more, so it gets none: what is in them
 * becomes blank, and the line of an error is the line in the file. */
static void comments_blank(char *text)
{
    char *at = text, *end;

    while (*at) {
        if (*at == '"' || *at == '\'') {
            at = quoted_end(at);
            continue;
        }
        if (*at == '#' || (at[0] == '/' && at[1] == '/' && token_starts(text, at))) {
            end = at + strcspn(at, "\n");
        } else if (at[0] == '/' && at[1] == '*') {
            end = strstr(at + 2, "*/");
            end = end ? end + 2 : at + strlen(at);
        } else {
            at++;
            continue;
        }
        for (; at < end; at++)
            *at = *at == '\n' ? '\n' : ' ';
    }
}

static int file_read(const char *path, char **ret_text)
{
    _cleanup_(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t used = 0, room = 16384;
    char *text = xmalloc(room);
    ssize_t n;

    while (fd >= 0 && (n = read(fd, text + used, room - used - 1)) > 0) {
        used += (size_t)n;
        if (room - used < 4096)
            text = xrealloc(text, room *= 2);
    }
    if (fd < 0 || n < 0) {
        fprintf(loading.errors, "%s: %s", path, strerror(errno));
        loading.count++;
        free(text);
        return -EIO;
    }
    memcpy(text + used, " ", 2); /* fmemopen wants at least a byte */
    *ret_text = text;
    return 0;
}

static int file_parse(cfg_t *cfg, const char *path)
{
    _cleanup_(freep) char *text = NULL;
    FILE *in;
    int rc;

    if (file_read(path, &text) < 0)
        return CFG_FILE_ERROR;
    comments_blank(text);
    in = fmemopen(text, strlen(text), "r");
    if (!in)
        abort();
    cfg->filename = xstrdup(path);
    rc = cfg_parse_fp(cfg, in);
    fclose(in);
    return rc;
}

/* The value as it is: it is no text of a configuration, so nothing in it is interpreted. */
static void override_apply(cfg_t *cfg, const char *override)
{
    const char *equals = strchr(override, '=');
    _cleanup_(freep) char *key = equals ? strndup(override, (size_t)(equals - override)) : NULL;
    const struct config_row *row = key ? row_find("root", key) : NULL;
    _cleanup_(freep) char *wrong =
        row ? config_value_check(row, equals + 1)
            : xstrdup("must be KEY=VALUE with a top-level key of appliance.conf");

    loading.override = override;
    if (wrong)
        cfg_error(cfg, "%s", wrong);
    else
        cfg_setstr(cfg, key, equals + 1);
    loading.override = NULL;
}

int config_load(const char *path, const char *const *overrides, unsigned n, struct config **ret,
                char **why)
{
    struct config *config = xcalloc(1, sizeof(*config));
    struct stat st;
    size_t len;
    cfg_t *cfg;
    int rc;

    *why = NULL;
    loading.errors = open_memstream(why, &len);
    loading.count = 0;
    loading.inline_secret = false;
    config->arena = arena_new();
    cfg = tree_new();
    cfg_set_error_function(cfg, on_error);
    rc = file_parse(cfg, path);
    if (rc == CFG_PARSE_ERROR && !loading.count)
        cfg_error(cfg, "cannot be understood");
    for (unsigned i = 0; i < n && rc == CFG_SUCCESS; i++)
        override_apply(cfg, overrides[i]);
    if (rc == CFG_SUCCESS && !loading.count)
        config_build(config, cfg);
    cfg_free(cfg);
    fclose(loading.errors);
    if (loading.inline_secret && stat(path, &st) == 0 && (st.st_mode & 077))
        log_warn("others can read this configuration, and it holds a secret: chmod 600 it, or say "
                 "file:PATH",
                 KV_STR("path", path));
    if (loading.count) {
        config_free(config);
        return -EINVAL;
    }
    free(*why);
    *why = NULL;
    *ret = config;
    return 0;
}

struct config *config_free(struct config *config)
{
    if (config)
        arena_free(config->arena);
    free(config);
    return NULL;
}

/* ---- appliance.conf.example ---- */

static void example_allowed(FILE *out, const struct config_row *row)
{
    if (strcmp(row->allowed, "!") == 0)
        fputs(" Not served yet.", out);
    else if (row->kind == CONFIG_CHOICE)
        fprintf(out, " (%s%s)", row->allowed,
                strchr(row->allowed, '!') ? "; ! = not served yet" : "");
    else if (*row->allowed)
        fprintf(out, " (%s)", row->allowed);
}

static void example_row(FILE *out, const struct config_row *row, const char *indent)
{
    const char *value = *row->example ? row->example : row->fallback;
    bool quoted = !*value || row->kind == CONFIG_ADDRESS || row->kind == CONFIG_TEXT ||
                  row->kind == CONFIG_SECRET || row->kind == CONFIG_LIST;
    const char *quote = quoted ? "\"" : "";

    fprintf(out, "%s# %s", indent, row->help);
    example_allowed(out, row);
    fprintf(out, "\n%s%s%s = ", indent, *row->example ? "" : "# ", row->key);
    fprintf(out, row->kind == CONFIG_LIST ? "{ %s%s%s }\n" : "%s%s%s\n", quote, value, quote);
}

static void example_rows(FILE *out, enum config_section section, const char *indent)
{
    for (unsigned i = 0; i < config_row_count; i++)
        if (config_rows[i].section == section)
            example_row(out, &config_rows[i], indent);
}

void config_print_example(FILE *out)
{
    fputs("# appliance.conf - made from server/config.def by `hearth --example`; do not edit by "
          "hand.\n"
          "# Commented keys show their default. Sizes: MiB, GiB, GB; times: ms, s, m, h, d.\n\n",
          out);
    example_rows(out, CONFIG_ROOT, "");
    fputs("\n# https on the data port.\n# tls {\n", out);
    example_rows(out, CONFIG_TLS, "#   ");
    fputs("# }\n\n# Bearer tokens of Entra ID, and user delegation.\n# entra {\n", out);
    example_rows(out, CONFIG_ENTRA, "#   ");
    fputs("# }\n\n# One per NVMe device.\ndevice \"slab0\" {\n", out);
    example_rows(out, CONFIG_DEVICE, "    ");
    fputs(
        "}\n\n# A storage account as clients see it. Without `upstream` it is local to this box.\n"
        "account \"contoso\" {\n",
        out);
    example_rows(out, CONFIG_ACCOUNT, "    ");
    fputs("\n    upstream {\n", out);
    example_rows(out, CONFIG_UPSTREAM, "        ");
    fputs("    }\n\n"
          "    # What is promised where: the first pattern over container/blob that matches; '*' "
          "matches '/' too.\n"
          "    contract \"data-*\" { write = deny fresh = immutable }\n"
          "    contract \"ckpt/*\" { write = back markers = { \"latest\", "
          "\"*.metadata\" } }\n"
          "    contract \"*\" {\n",
          out);
    example_rows(out, CONFIG_CONTRACT, "        ");
    fputs("    }\n}\n", out);
}
