/* blobapi/service_properties.c - Get Blob Service Properties: the defaults of an account, which
 * here are all there is: no logging, no metrics, no CORS, no soft delete, no static website. */
#include "blobapi/handlers.h"

static struct next properties_emit(struct op *op);

struct next service_properties_start(struct op *op)
{
    return emit_begin(REQUEST(op), IOBUF_4K, GO(properties_emit));
}

static struct next properties_emit(struct op *op)
{
    struct request *r = REQUEST(op);

    EMIT(r->emit, "<?xml version=\"1.0\" encoding=\"utf-8\"?><StorageServiceProperties>"
                  "<Logging><Version>1.0</Version><Read>false</Read><Write>false</Write>"
                  "<Delete>false</Delete><RetentionPolicy><Enabled>false</Enabled></"
                  "RetentionPolicy></Logging>"
                  "<HourMetrics><Version>1.0</Version><Enabled>false</Enabled>"
                  "<RetentionPolicy><Enabled>false</Enabled></RetentionPolicy></HourMetrics>"
                  "<MinuteMetrics><Version>1.0</Version><Enabled>false</Enabled>"
                  "<RetentionPolicy><Enabled>false</Enabled></RetentionPolicy></MinuteMetrics>"
                  "<Cors />"
                  "<DeleteRetentionPolicy><Enabled>false</Enabled></DeleteRetentionPolicy>"
                  "<StaticWebsite><Enabled>false</Enabled></StaticWebsite>"
                  "</StorageServiceProperties>");
    return answer_emitted(r, 200);
}
