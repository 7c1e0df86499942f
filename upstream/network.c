/* upstream/network.c - see network.h. The ranges that are not public: IANA's special-purpose
 * address registries (RFC 6890 and its updates), and prefixes that carry an IPv4 address inside. */
#include "upstream/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define HOST_BYTES_MAX 253
#define V4_BITS        96 /* of ::ffff:0:0/96 */

static const unsigned char v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* ---- networks ---- */

static bool address_parse(struct span text, unsigned char ret[16], bool *ret_v4)
{
    char copy[INET6_ADDRSTRLEN + 1];

    if (!text.len || text.len >= sizeof(copy))
        return false;
    memcpy(copy, text.base, text.len);
    copy[text.len] = '\0';
    memcpy(ret, v4_prefix, sizeof(v4_prefix));
    *ret_v4 = inet_pton(AF_INET, copy, ret + 12) == 1;
    return *ret_v4 || inet_pton(AF_INET6, copy, ret) == 1;
}

static bool bit_of(const unsigned char address[16], unsigned bit)
{
    return address[bit / 8] >> (7 - bit % 8) & 1;
}

int network_parse(struct span text, struct network *ret)
{
    struct span bits, address = span_cut(text, '/', &bits);
    uint64_t given;
    bool v4;

    if (!address_parse(address, ret->base, &v4))
        return -EINVAL;
    ret->bits = 128;
    if (bits.base) {
        if (span_to_u64(bits, &given) || given > (v4 ? 32 : 128))
            return -EINVAL;
        ret->bits = (unsigned)given + (v4 ? V4_BITS : 0);
    }
    for (unsigned i = ret->bits; i < 128; i++)
        if (bit_of(ret->base, i))
            return -EINVAL;
    return 0;
}

static bool network_has(const struct network *network, const unsigned char address[16])
{
    for (unsigned i = 0; i < network->bits; i++)
        if (bit_of(network->base, i) != bit_of(address, i))
            return false;
    return true;
}

#define V4(a, b, c, d, n)                                                                          \
    {                                                                                              \
        {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}, V4_BITS + (n)                      \
    }
#define V6(a, b, n)                                                                                \
    {                                                                                              \
        {(a) >> 8, (a)&0xff, (b) >> 8, (b)&0xff}, n                                                \
    }

static const struct network not_public[] = {
    V4(0, 0, 0, 0, 8),       /* this network */
    V4(10, 0, 0, 0, 8),      /* private */
    V4(100, 64, 0, 0, 10),   /* carrier NAT */
    V4(127, 0, 0, 0, 8),     /* loopback */
    V4(169, 254, 0, 0, 16),  /* link-local: instance metadata too */
    V4(172, 16, 0, 0, 12),   /* private */
    V4(192, 0, 0, 0, 24),    /* protocol assignments */
    V4(192, 0, 2, 0, 24),    /* documentation */
    V4(192, 88, 99, 0, 24),  /* 6to4 relays */
    V4(192, 168, 0, 0, 16),  /* private */
    V4(198, 18, 0, 0, 15),   /* benchmarks */
    V4(198, 51, 100, 0, 24), /* documentation */
    V4(203, 0, 113, 0, 24),  /* documentation */
    V4(224, 0, 0, 0, 3),     /* multicast, reserved, broadcast */
    V6(0x0064, 0xff9b, 32),  /* NAT64: an IPv4 address inside */
    V6(0x0100, 0, 64),       /* discard */
    V6(0x2001, 0, 23),       /* protocol assignments, Teredo */
    V6(0x2001, 0x0db8, 32),  /* documentation */
    V6(0x2002, 0, 16),       /* 6to4: an IPv4 address inside */
};
/* Global unicast; what is outside of it (loopback, unique local, link-local, multicast, IPv4 forms)
 * is not public. */
static const struct network global_v6 = V6(0x2000, 0, 3);

static bool is_public(const unsigned char address[16])
{
    if (memcmp(address, v4_prefix, sizeof(v4_prefix)) != 0 && !network_has(&global_v6, address))
        return false;
    for (size_t i = 0; i < countof(not_public); i++)
        if (network_has(&not_public[i], address))
            return false;
    return true;
}

bool copy_address_allowed(const struct copy_policy *policy, const struct sockaddr *address)
{
    unsigned char bytes[16];

    if (address->sa_family == AF_INET) {
        memcpy(bytes, v4_prefix, sizeof(v4_prefix));
        memcpy(bytes + 12, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
    } else {
        return false;
    }
    for (unsigned i = 0; i < policy->network_count; i++)
        if (network_has(&policy->networks[i], bytes))
            return true;
    return is_public(bytes);
}

/* ---- origins ---- */

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/* A name or an address; v6 stands in brackets. star: "*." may begin it. */
static bool host_parse(struct span text, bool star, struct arena *arena, struct span *ret)
{
    struct span host = arena_copy(arena, text);
    unsigned char address[16];
    bool v4;

    for (size_t i = 0; i < host.len; i++)
        if (host.base[i] >= 'A' && host.base[i] <= 'Z')
            ((char *)host.base)[i] |= 0x20;
    *ret = host;
    if (!host.len || host.len > HOST_BYTES_MAX)
        return false;
    if (host.base[0] == '[') {
        *ret = span_from(host.base + 1, host.len - 2);
        return host.len > 4 && host.base[host.len - 1] == ']' &&
               address_parse(*ret, address, &v4) && !v4;
    }
    if (star && span_starts(host, SPAN("*.")))
        host = span_skip(host, 2);
    for (size_t i = 0; i < host.len; i++)
        if (!is_host_char(host.base[i]))
            return false;
    return host.len && host.base[0] != '.' && host.base[host.len - 1] != '.';
}

static bool port_parse(struct span text, unsigned *ret)
{
    uint64_t port;

    if (span_to_u64(text, &port) || !port || port > 65535)
        return false;
    *ret = (unsigned)port;
    return true;
}

/* host, host:port, [v6], [v6]:port */
static bool authority_parse(struct span text, bool star, struct arena *arena, struct origin *ret)
{
    const char *close = text.len && text.base[0] == '[' ? memchr(text.base, ']', text.len) : NULL;
    size_t from = close ? (size_t)(close - text.base) + 1 : 0;
    struct span host, port, rest = span_cut(span_skip(text, from), ':', &port);

    host = span_from(text.base, from + rest.len);
    ret->port = ret->tls ? 443 : 80;
    if (from && rest.len)
        return false; /* something between ']' and ':' */
    return (!port.base || port_parse(port, &ret->port)) &&
           host_parse(host, star, arena, &ret->host);
}

static bool scheme_cut(struct span *text, bool *tls)
{
    const struct span schemes[] = {SPAN("http://"), SPAN("https://")};

    for (unsigned i = 0; i < countof(schemes); i++)
        if (text->len > schemes[i].len &&
            span_eq_nocase(span_from(text->base, schemes[i].len), schemes[i])) {
            *text = span_skip(*text, schemes[i].len);
            *tls = i == 1;
            return true;
        }
    return false;
}

int origin_parse(struct span text, struct arena *arena, struct origin *ret)
{
    if (!scheme_cut(&text, &ret->tls))
        return -EINVAL;
    return authority_parse(text, true, arena, ret) ? 0 : -EINVAL;
}

static bool host_matches(struct span pattern, struct span host)
{
    struct span tail;

    if (!span_starts(pattern, SPAN("*.")))
        return span_eq(pattern, host);
    tail = span_skip(pattern, 1); /* ".example.org" */
    return host.len > tail.len && span_eq(span_skip(host, host.len - tail.len), tail);
}

bool copy_origin_allowed(const struct copy_policy *policy, const struct origin *origin)
{
    for (unsigned i = 0; i < policy->origin_count; i++) {
        const struct origin *allowed = &policy->origins[i];

        if (allowed->tls == origin->tls && allowed->port == origin->port &&
            host_matches(allowed->host, origin->host))
            return true;
    }
    return false;
}

int origin_url_parse(struct span url, struct arena *arena, struct origin_url *ret)
{
    struct span rest = url;
    const char *slash;
    bool v6;

    for (size_t i = 0; i < url.len; i++)
        if (url.base[i] <= ' ' || url.base[i] >= 0x7f || url.base[i] == '#' || url.base[i] == '\\')
            return -EINVAL;
    if (!scheme_cut(&rest, &ret->origin.tls) || !(slash = memchr(rest.base, '/', rest.len)))
        return -EINVAL;
    if (!authority_parse(span_from(rest.base, (size_t)(slash - rest.base)), false, arena,
                         &ret->origin))
        return -EINVAL;
    ret->path = span_skip(rest, (size_t)(slash - rest.base));
    v6 = memchr(ret->origin.host.base, ':', ret->origin.host.len);
    ret->text =
        arena_printf(arena, "%s://%s%.*s%s:%u", ret->origin.tls ? "https" : "http", v6 ? "[" : "",
                     SPAN_FMT(ret->origin.host), v6 ? "]" : "", ret->origin.port);
    return 0;
}
