/* blobapi/access.c - what a container's ACL says to authentication: its stored access policies, and
 * what it lets anybody do. Of containers that no cloud has: elsewhere both are the cloud's promise
 * (design section 5), and what a box remembers of them may be revoked by now. Loop thread. */
#include "blobapi/request.h"

/* From here on clients are told how to authenticate; those before read 404 as "it is not there". */
#define CHALLENGED_SINCE SPAN("2019-12-12")

static struct container *container_of_target(const struct blobapi *api, const struct target *target)
{
    struct container *container = NULL;

    if (!target->account || !target->container.len ||
        contract_container_in_cloud(target->account, target->container) ||
        cache_container(api->conf.cache, target->account->id, target->container, &container) < 0)
        return NULL;
    return container;
}

struct container *access_policies(const struct blobapi *api, const struct target *target,
                                  struct auth_request *check)
{
    struct container *container =
        target_find(target, SPAN("si")) ? container_of_target(api, target) : NULL;

    if (container) {
        check->policies = container_record(container)->policies;
        check->policy_count = container_record(container)->policy_count;
    }
    return container;
}

static bool access_covers(struct span access, enum anonymous need)
{
    if (need == ANONYMOUS_BLOB && span_eq(access, SPAN("blob")))
        return true;
    return need != ANONYMOUS_NEVER && span_eq(access, SPAN("container"));
}

enum az_error access_anonymous(const struct blobapi *api, const struct target *target,
                               enum anonymous need, struct granted *ret)
{
    struct container *container;
    bool covered;

    if (need == ANONYMOUS_NEVER || !target->container.len)
        return AZ_NO_AUTHENTICATION_INFORMATION;
    if (!target->account->public_access)
        return AZ_PUBLIC_ACCESS_NOT_PERMITTED;
    container = container_of_target(api, target);
    covered = container && access_covers(container_record(container)->public_access, need);
    container_unref(container);
    if (!covered)
        return AZ_RESOURCE_NOT_FOUND;
    *ret = (struct granted){.kind = AUTH_ANONYMOUS, .rights = AUTH_READ | AUTH_LIST};
    return AZ_OK;
}

enum az_error access_anonymous_request(struct request *r)
{
    struct span version = exchange_header(r->http, SPAN("x-ms-version"));
    struct span blocks = target_param(&r->target, SPAN("blocklisttype"));
    enum anonymous need = r->operation->anonymous;
    enum az_error error;

    if (r->operation == &operations[OPERATION_GET_BLOCK_LIST] && blocks.len &&
        !span_eq_nocase(blocks, SPAN("committed"))) /* what is not committed is not published */
        need = ANONYMOUS_NEVER;
    error = access_anonymous(r->api, &r->target, need, &r->granted);
    if (error == AZ_RESOURCE_NOT_FOUND && version.len && span_cmp(version, CHALLENGED_SINCE) >= 0)
        return AZ_NO_AUTHENTICATION_INFORMATION;
    return error;
}

enum az_error access_input(const struct request *r, struct span *ret, struct span *culprit)
{
    struct span asked = exchange_header(r->http, SPAN("x-ms-blob-public-access"));

    *culprit = (struct span){NULL, 0};
    if (!asked.len)
        return AZ_OK;
    if (span_eq_nocase(asked, SPAN("container")))
        *ret = SPAN("container");
    else if (span_eq_nocase(asked, SPAN("blob")))
        *ret = SPAN("blob");
    else {
        *culprit = SPAN("x-ms-blob-public-access");
        return AZ_INVALID_HEADER_VALUE;
    }
    return r->account->public_access ? AZ_OK : AZ_PUBLIC_ACCESS_NOT_PERMITTED;
}
