/* server/admin.h - the admin port's pages. Private to server/. */
#ifndef SERVER_ADMIN_H
#define SERVER_ADMIN_H

#include "blobapi/exchange.h"

void admin_start(
    struct exchange *exchange); /* loop thread; conf is the service's (http_service_of) */

#endif
