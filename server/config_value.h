/* server/config_value.h - the rows of config.def and the check of one value. Private to config.c.
 */
#ifndef SERVER_CONFIG_VALUE_H
#define SERVER_CONFIG_VALUE_H

#include "base/arena.h"
#include "server/config.h"

enum config_section {
    CONFIG_ROOT,
    CONFIG_TLS,
    CONFIG_ENTRA,
    CONFIG_DEVICE,
    CONFIG_ACCOUNT,
    CONFIG_UPSTREAM,
    CONFIG_CONTRACT,
    CONFIG_SECTIONS
};
enum config_kind {
    CONFIG_ADDRESS,
    CONFIG_SIZE,
    CONFIG_DURATION,
    CONFIG_COUNT,
    CONFIG_CHOICE,
    CONFIG_BOOL,
    CONFIG_TEXT,
    CONFIG_SECRET,
    CONFIG_LIST
};
struct config_row {
    enum config_section section;
    const char *key;
    enum config_kind kind;
    const char *fallback, *allowed, *example, *help;
};
extern const struct config_row config_rows[];
extern const unsigned config_row_count;

/* NULL: fine. Else what is wrong and what is allowed, malloc'ed. */
char *config_value_check(const struct config_row *row, const char *value) must_check;
/* "bounded 60s", "strict", ... -EINVAL. */
int config_parse_fresh(const char *text, enum contract_fresh *ret, uint64_t *ret_ns) must_check;
/* Position of value in "a|b|!c"; -EINVAL. */
int config_choice(const char *allowed, const char *value, bool *served) must_check;
/* Reads "file:PATH" (mode checked: its owner only) or takes the value itself. Trailing white space
 * goes. base64: decoded. On error *why is malloc'ed. */
int config_secret(struct arena *arena, const char *value, bool base64, struct span *ret,
                  char **why) must_check;

#endif
