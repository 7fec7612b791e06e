/* What the tests of sessions share: calls that check what every answer must have, and give its code. */
#ifndef SESSIONS_H
#define SESSIONS_H

#include "support.h"

#define NO_DIGEST NULL

static inline onceflight_sessions *with_limits(onceflight_session_limits limits)
{
    onceflight_sessions *sessions = NULL;
    REQUIRE(onceflight_sessions_with_limits(&limits, &sessions) == ONCEFLIGHT_OK && sessions != NULL);
    return sessions;
}

/* Room for many, W = 4, a second. */
static inline onceflight_sessions *new_sessions(void)
{
    onceflight_sessions *sessions = NULL;
    REQUIRE(onceflight_sessions_new(1000, 4, 1000, &sessions) == ONCEFLIGHT_OK && sessions != NULL);
    return sessions;
}

static inline const uint8_t *text(const char *client)
{
    return (const uint8_t *)client;
}

static inline uint64_t registered_as(onceflight_sessions *sessions, const char *client, const char *nonce, uint64_t now)
{
    uint64_t incarnation = 0;
    REQUIRE(onceflight_sessions_register(sessions, text(client), strlen(client), text(nonce), strlen(nonce), now,
                                         &incarnation) == ONCEFLIGHT_OK);
    REQUIRE(incarnation != 0);
    return incarnation;
}

static inline uint64_t registered(onceflight_sessions *sessions, const char *client)
{
    return registered_as(sessions, client, "nonce", 0);
}

/* What a request is told, with all there is to say; a response it gets is freed. */
static inline int32_t told(onceflight_sessions *sessions, const char *client, uint64_t incarnation, uint64_t seq,
                           uint64_t ack, const uint8_t *digest, uint64_t now)
{
    onceflight_response *response = GARBAGE;
    int32_t code = onceflight_sessions_begin(sessions, text(client), strlen(client), incarnation, seq, ack, digest, now,
                                             &response);
    CHECK((response != NULL) == (code == ONCEFLIGHT_REPLAYED));
    onceflight_response_free(response);
    return code;
}

static inline int32_t begin(onceflight_sessions *sessions, const char *client, uint64_t incarnation, uint64_t seq)
{
    return told(sessions, client, incarnation, seq, 0, NO_DIGEST, 0);
}

static inline int32_t record(onceflight_sessions *sessions, const char *client, uint64_t incarnation, uint64_t seq,
                             int32_t status, const char *body)
{
    return onceflight_sessions_record(sessions, text(client), strlen(client), incarnation, seq, status, text(body),
                                      strlen(body));
}

static inline void execute(onceflight_sessions *sessions, const char *client, uint64_t incarnation, uint64_t seq,
                           const char *body)
{
    EXPECT(ONCEFLIGHT_LEAD, begin(sessions, client, incarnation, seq));
    EXPECT(ONCEFLIGHT_OK, record(sessions, client, incarnation, seq, 0, body));
}

static inline int32_t peek(const onceflight_sessions *sessions, const char *client, uint64_t incarnation, uint64_t seq)
{
    onceflight_response *response = GARBAGE;
    int32_t code = onceflight_sessions_peek(sessions, text(client), strlen(client), incarnation, seq, &response);
    CHECK((response != NULL) == (code == ONCEFLIGHT_REPLAYED));
    onceflight_response_free(response);
    return code;
}

static inline int32_t keep_alive(onceflight_sessions *sessions, const char *client, uint64_t incarnation, uint64_t now)
{
    return onceflight_sessions_keep_alive(sessions, text(client), strlen(client), incarnation, now);
}

static inline int32_t unregister(onceflight_sessions *sessions, const char *client)
{
    return onceflight_sessions_unregister(sessions, text(client), strlen(client));
}

static inline uint64_t expired_by(onceflight_sessions *sessions, uint64_t now)
{
    uint64_t expired = 77;
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_expire(sessions, now, &expired));
    return expired;
}

static inline onceflight_session_stats state_of(const onceflight_sessions *sessions)
{
    onceflight_session_stats stats = ONCEFLIGHT_SESSION_STATS_INIT;
    REQUIRE(onceflight_sessions_stats(sessions, &stats) == ONCEFLIGHT_OK);
    return stats;
}

static inline onceflight_response *snapshot_of(const onceflight_sessions *sessions)
{
    onceflight_response *bytes = NULL;
    REQUIRE(onceflight_sessions_snapshot(sessions, &bytes) == ONCEFLIGHT_OK && bytes != NULL);
    CHECK(onceflight_response_status(bytes) == 0);
    return bytes;
}

static inline onceflight_sessions *restored_from(const onceflight_response *bytes)
{
    onceflight_sessions *sessions = NULL;
    REQUIRE(onceflight_sessions_restore(onceflight_response_data(bytes), onceflight_response_len(bytes), &sessions) ==
            ONCEFLIGHT_OK);
    return sessions;
}

static inline int same_bytes(const onceflight_response *one, const onceflight_response *other)
{
    size_t len = onceflight_response_len(one);
    return len == onceflight_response_len(other) &&
           memcmp(onceflight_response_data(one), onceflight_response_data(other), len) == 0;
}

/* Whether both give the same snapshot: all that they will ever answer stands in it. */
static inline int same_state(const onceflight_sessions *one, const onceflight_sessions *other)
{
    onceflight_response *first = snapshot_of(one), *second = snapshot_of(other);
    int same = same_bytes(first, second);
    onceflight_response_free(first);
    onceflight_response_free(second);
    return same;
}

#endif
