// proto/address.c: see address.h.
#include "proto/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const char insecure_word[] = "insecure";

enum err address_get(const char *text, struct address *address_out)
{
    const size_t line = strcspn(text, "\r\n");
    const size_t endpoint = strcspn(text, " \r\n");
    const char *const word = text + endpoint + (endpoint < line ? 1 : 0);
    const size_t word_bytes = line - (size_t)(word - text);
    *address_out = (struct address){.insecure = endpoint < line};
    if (endpoint == 0 || endpoint >= LINK_ENDPOINT_BYTES ||
        text[line + strspn(text + line, "\r\n")] != '\0' ||
        !text_is_clean(span_of(text, endpoint)) ||
        (address_out->insecure &&
         !span_equal(span_of(word, word_bytes), span_text(insecure_word)))) {
        FAIL(ERR_INVALID, "expected one line, tcp://HOST:PORT, and insecure behind it where the "
                          "coordinator takes no keys");
    }
    memcpy(address_out->endpoint, text, endpoint);
    return OK;
}

void address_put(const struct address *address, char out[static ADDRESS_LINE_BYTES])
{
    snprintf(out, ADDRESS_LINE_BYTES, "%s%s%s", address->endpoint, address->insecure ? " " : "",
             address->insecure ? insecure_word : "");
}

bool address_is_loopback(const char *endpoint)
{
    static const char start[] = "tcp://";
    char host[INET_ADDRSTRLEN];
    struct in_addr parsed;
    const char *const colon = strrchr(endpoint, ':');
    if (strncmp(endpoint, start, sizeof start - 1) != 0 || colon < endpoint + sizeof start ||
        (size_t)(colon - endpoint) - (sizeof start - 1) >= sizeof host) {
        return false;
    }
    snprintf(host, sizeof host, "%.*s", (int)(colon - endpoint - (int)(sizeof start - 1)),
             endpoint + sizeof start - 1);
    return inet_pton(AF_INET, host, &parsed) == 1 && ntohl(parsed.s_addr) >> 24 == 127;
}

enum err address_check_loopback(const char *what, const char *endpoint)
{
    if (!address_is_loopback(endpoint)) {
        FAIL(ERR_INVALID,
             "%s %s is not of this machine alone, expected tcp://127.0.0.1:PORT: without keys "
             "everybody who reaches it could read and delete",
             what, endpoint);
    }
    return OK;
}
