/* blobapi/account_info.c - Get Account Information: what clients ask before they use tiers or
 * directories. */
#include "blobapi/handlers.h"

struct next account_info_start(struct op *op)
{
    struct request *r = REQUEST(op);

    answer_add(r, SPAN("x-ms-sku-name"), SPAN("Standard_LRS"));
    answer_add(r, SPAN("x-ms-account-kind"), SPAN("StorageV2"));
    answer_add(r, SPAN("x-ms-is-hns-enabled"), SPAN("false"));
    return answer_empty(r, 200);
}
