/* What the programs share that are run on a URL: `memory:` or any store's. They test what a table promises over
 * all of them, so what differs by default (ttl, lease, heartbeat) is set, and every key is new: records stay. */
#ifndef DURABLE_H
#define DURABLE_H

#include "support.h"

static const char *url = "memory:";

static inline int in_memory(void)
{
    return strcmp(url, "memory:") == 0;
}

static inline int is(const char *scheme)
{
    return strncmp(url, scheme, strlen(scheme)) == 0;
}

static inline int32_t open_with(const onceflight_options *options, onceflight_table **table)
{
    return onceflight_table_open(url, options, table);
}

/* Keeps responses and leases for an hour, and renews none; then one or two settings of the test's own. */
static inline onceflight_table *opened_with(setter first, uint64_t first_value, setter second, uint64_t second_value)
{
    onceflight_options *options = onceflight_options_new();
    onceflight_table *table = NULL;
    int32_t code;
    REQUIRE(onceflight_options_set_completed_ttl_ms(options, HOUR_MS) == ONCEFLIGHT_OK);
    REQUIRE(onceflight_options_set_lease_ms(options, HOUR_MS) == ONCEFLIGHT_OK);
    REQUIRE(onceflight_options_set_heartbeat(options, 0) == ONCEFLIGHT_OK);
    REQUIRE(first == NULL || first(options, first_value) == ONCEFLIGHT_OK);
    REQUIRE(second == NULL || second(options, second_value) == ONCEFLIGHT_OK);
    code = open_with(options, &table);
    onceflight_options_free(options);
    if (!EXPECT(ONCEFLIGHT_OK, code)) {
        char detail[512];
        size_t size = sizeof detail;
        if (onceflight_last_error(detail, &size) == ONCEFLIGHT_OK)
            fprintf(stderr, "%s: %s\n", url, detail);
        REQUIRE(table != NULL);
    }
    return table;
}

static inline onceflight_table *opened(void)
{
    return opened_with(NULL, 0, NULL, 0);
}

/* A key that no run has had. Good until eight more are made. */
static inline const char *new_key(void)
{
    static char keys[8][64];
    static unsigned number;
    struct timespec now;
    char *key = keys[++number % 8];
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(key, sizeof keys[0], "durable-%ld-%lld-%ld-%u", (long)getpid(), (long long)now.tv_sec, now.tv_nsec, number);
    return key;
}

static inline onceflight_request with_fingerprint(onceflight_request request, const char *fingerprint)
{
    request.fingerprint = (const uint8_t *)fingerprint;
    request.fingerprint_len = fingerprint == NULL ? 0 : strlen(fingerprint);
    return request;
}

/* The lead of a request, or the end of the program. */
static inline onceflight_lead lead_by(const onceflight_table *table, onceflight_request request)
{
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    REQUIRE(onceflight_begin_request(table, &request, &lead, &response) == ONCEFLIGHT_LEAD);
    return lead;
}

/* Whether the key is replayed just so, to a caller that doesn't wait. */
static inline int replays(const onceflight_table *table, const char *key, int32_t status, const char *body)
{
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    int32_t outcome = onceflight_begin(table, (const uint8_t *)key, strlen(key), 0, &lead, &response);
    int holds = outcome == ONCEFLIGHT_REPLAYED && lead == 0 && response_is(response, status, body);
    onceflight_response_free(response);
    return holds;
}

/* The attempt of a lead; its fence must be higher than the last one's, which it becomes. */
static inline uint32_t attempt_above(const onceflight_table *table, onceflight_lead lead, uint64_t *fence)
{
    onceflight_lead_info info = details_of(table, lead);
    CHECK(info.fence > *fence);
    *fence = info.fence;
    onceflight_response_free(info.checkpoint);
    return info.attempt;
}

/* The URL a program was given. */
static inline int has_url(int argc, char **argv)
{
    if (argc < 2)
        return 0;
    url = argv[1];
    return 1;
}

#endif
