/* What the C tests share: tables with options, callers on threads of their own, and waiting for a state
 * of the table by its statistics instead of by a sleep. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "check.h"

#define FOREVER ONCEFLIGHT_FOREVER
#define HOUR_MS UINT64_C(3600000)
#define BYTES(text) ((const uint8_t *)(text)), (sizeof(text) - 1)
#define GARBAGE ((onceflight_response *)(void *)&check_broken)

static inline onceflight_table *new_table(const onceflight_options *options)
{
    onceflight_table *table = NULL;
    REQUIRE(onceflight_table_new(options, &table) == ONCEFLIGHT_OK && table != NULL);
    return table;
}

typedef int32_t (*setter)(onceflight_options *, uint64_t);

/* A table with one or two settings; pass NULL for the second where there is none. */
static inline onceflight_table *table_with(setter first, uint64_t first_value, setter second, uint64_t second_value)
{
    onceflight_options *options = onceflight_options_new();
    onceflight_table *table;
    REQUIRE(options != NULL);
    REQUIRE(first(options, first_value) == ONCEFLIGHT_OK);
    REQUIRE(second == NULL || second(options, second_value) == ONCEFLIGHT_OK);
    table = new_table(options);
    onceflight_options_free(options);
    return table;
}

static inline onceflight_stats stats_of(const onceflight_table *table)
{
    onceflight_stats stats = ONCEFLIGHT_STATS_INIT;
    REQUIRE(onceflight_table_stats(table, &stats) == ONCEFLIGHT_OK);
    return stats;
}

static inline double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* A hang here ends by the alarm of RUN. */
static inline void await_waiting(const onceflight_table *table, uint64_t count)
{
    while (stats_of(table).waiting != count)
        sched_yield();
}

static inline onceflight_request request_for(const char *key)
{
    onceflight_request request = ONCEFLIGHT_REQUEST_INIT;
    request.key = (const uint8_t *)key;
    request.key_len = strlen(key);
    return request;
}

/* The lead of a key, or the end of the program. */
static inline onceflight_lead lead_of(const onceflight_table *table, const char *key)
{
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    int32_t outcome = onceflight_begin(table, (const uint8_t *)key, strlen(key), FOREVER, &lead, &response);
    REQUIRE(outcome == ONCEFLIGHT_LEAD && lead != 0 && response == NULL);
    return lead;
}

/* What a caller that doesn't wait is told; a lead or a response it gets is given back at once. */
static inline int32_t probe_request(const onceflight_table *table, onceflight_request request)
{
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    int32_t outcome;
    request.timeout_ms = 0;
    outcome = onceflight_begin_request(table, &request, &lead, &response);
    if (outcome == ONCEFLIGHT_LEAD)
        REQUIRE(onceflight_cancel(table, lead) == ONCEFLIGHT_OK);
    onceflight_response_free(response);
    return outcome;
}

static inline int32_t probe(const onceflight_table *table, const char *key)
{
    return probe_request(table, request_for(key));
}

static inline onceflight_lead_info details_of(const onceflight_table *table, onceflight_lead lead)
{
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    REQUIRE(onceflight_lead_details(table, lead, &info) == ONCEFLIGHT_OK);
    return info;
}

static inline int response_is(const onceflight_response *response, int32_t status, const char *body)
{
    return response != NULL && onceflight_response_status(response) == status &&
           onceflight_response_len(response) == strlen(body) &&
           memcmp(onceflight_response_data(response), body, strlen(body)) == 0;
}

/* A caller on a thread of its own. */
typedef struct caller {
    pthread_t thread;
    const onceflight_table *table;
    onceflight_request request;
    int32_t outcome;
    onceflight_lead lead;
    onceflight_response *response;
} caller;

static inline void *caller_main(void *argument)
{
    caller *self = (caller *)argument;
    self->outcome = onceflight_begin_request(self->table, &self->request, &self->lead, &self->response);
    return NULL;
}

static inline void caller_start_request(caller *self, const onceflight_table *table, onceflight_request request)
{
    memset(self, 0, sizeof *self);
    self->table = table;
    self->request = request;
    REQUIRE(pthread_create(&self->thread, NULL, caller_main, self) == 0);
}

static inline void caller_start(caller *self, const onceflight_table *table, const char *key)
{
    caller_start_request(self, table, request_for(key));
}

/* The caller is known to be in line behind `ahead` others when this returns. */
static inline void caller_join_line(caller *self, const onceflight_table *table, const char *key, uint64_t ahead)
{
    caller_start(self, table, key);
    await_waiting(table, ahead + 1);
}

static inline int32_t caller_outcome(caller *self)
{
    REQUIRE(pthread_join(self->thread, NULL) == 0);
    return self->outcome;
}

/* The outcome of a caller that is to hold one response, freed here. */
static inline int caller_got(caller *self, int32_t outcome, int32_t status, const char *body)
{
    int holds = caller_outcome(self) == outcome && self->lead == 0 && response_is(self->response, status, body);
    onceflight_response_free(self->response);
    return holds;
}

static inline int readable(int fd, int timeout_ms)
{
    struct pollfd entry;
    entry.fd = fd;
    entry.events = POLLIN;
    entry.revents = 0;
    return poll(&entry, 1, timeout_ms) == 1 && (entry.revents & POLLIN) != 0;
}

#endif
