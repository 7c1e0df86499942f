/* upstream/list_page.h - one page of List Blobs or List Containers, read as it arrives. */
#ifndef UPSTREAM_LIST_PAGE_H
#define UPSTREAM_LIST_PAGE_H

#include "base/arena.h"
#include "base/xml.h"
#include "cache/cache.h"

#define LIST_PAGE_ROWS_MAX 10000 /* the service gives 5 000 at most */

struct list_page;

struct list_page *list_page_new(void);
struct list_page *list_page_free(struct list_page *page);                 /* NULL is fine */
int list_page_feed(struct list_page *page, struct span bytes) must_check; /* -EBADMSG, -E2BIG */
/* The document is over: rows are sorted by name (Azurite gives all prefixes first), twins dropped.
 * Blobs or prefixes below `from` are left out; *below says whether there were any. */
int list_page_end(struct list_page *page, struct span from, bool *below) must_check;

/* Valid until free. */
const struct learned_row *list_page_rows(const struct list_page *page, size_t *ret_count);
const struct container_record *list_page_containers(const struct list_page *page,
                                                    size_t *ret_count);
struct span list_page_marker(const struct list_page *page); /* empty: this was the last page */
/* The first name after all that this page covers; base NULL on the last page or a page without
 * rows. */
struct span list_page_to(struct list_page *page);

#endif
