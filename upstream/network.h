/* upstream/network.h - where a copy source may lie: origins that are allowed by name, and addresses
 * that may be connected to. Pure; any thread.
 *
 * Names are judged before anything is looked up, addresses at each connect, after the name server
 * has answered: a name that is allowed and points into the site's own network gets nobody there. */
#ifndef UPSTREAM_NETWORK_H
#define UPSTREAM_NETWORK_H

#include <sys/socket.h>

#include "base/arena.h"
#include "base/span.h"
#include "base/util.h"

/* An IPv6 prefix; IPv4 as ::ffff:a.b.c.d. */
struct network {
    unsigned char base[16];
    unsigned bits;
};
/* "10.0.0.0/8", "fd00::/8", "192.0.2.7". -EINVAL; bits below the prefix must be 0. */
int network_parse(struct span text, struct network *ret) must_check;

/* scheme://host[:port]; a host "*.example.org" is any name below it, at any depth. */
struct origin {
    bool tls;
    struct span host; /* lower-case; an IPv6 address without its brackets */
    unsigned port;
};
int origin_parse(struct span text, struct arena *arena,
                 struct origin *ret) must_check; /* -EINVAL */

struct copy_policy {
    const struct origin *origins; /* none: no copy from elsewhere */
    unsigned origin_count;
    const struct network *networks; /* that are not public, and allowed all the same */
    unsigned network_count;
};
bool copy_origin_allowed(const struct copy_policy *policy, const struct origin *origin);
/* Public unicast, or in one of the policy's networks. */
bool copy_address_allowed(const struct copy_policy *policy, const struct sockaddr *address);

/* A source's URL, taken apart so strictly that no other parser can see another host in it: no user,
 * no escapes or spaces in the host, visible ASCII behind it. -EINVAL. */
struct origin_url {
    struct origin origin;
    struct span text; /* scheme://host:port, what is connected to */
    struct span path; /* path and query as sent; begins with '/' */
};
int origin_url_parse(struct span url, struct arena *arena, struct origin_url *ret) must_check;

#endif
