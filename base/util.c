#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

char *xstrdup(const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        abort();
    return copy;
}

char *xasprintf(const char *format, ...)
{
    va_list args;
    char *text;
    int n;

    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        abort();
    return text;
}
