/* Sessions: what a request is told, by the states of its session and of its window. */
#define _POSIX_C_SOURCE 200809L
#include "sessions.h"

static const uint8_t DIGEST[16] = {1, 2, 3}, OTHER_DIGEST[16] = {9};

static void a_request_is_executed_once_and_then_replayed(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t a = registered(sessions, "a");
    onceflight_response *again = NULL, *peeked = NULL;
    EXPECT(ONCEFLIGHT_OK, peek(sessions, "a", a, 1));
    EXPECT(ONCEFLIGHT_LEAD, begin(sessions, "a", a, 1));
    EXPECT(ONCEFLIGHT_OK, record(sessions, "a", a, 1, -7, "done"));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_sessions_begin(sessions, BYTES("a"), a, 1, 0, NULL, 0, &again));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_sessions_peek(sessions, BYTES("a"), a, 1, &peeked));
    EXPECT(ONCEFLIGHT_LEAD, begin(sessions, "a", a, 2));
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_record(sessions, BYTES("a"), a, 2, 3, NULL, 0));
    onceflight_sessions_free(sessions);
    /* A response outlives its table. */
    CHECK(response_is(again, -7, "done") && response_is(peeked, -7, "done"));
    onceflight_response_free(again);
    onceflight_response_free(peeked);
}

static void registering_is_idempotent_by_its_nonce(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t first = registered_as(sessions, "a", "one", 0);
    execute(sessions, "a", first, 1, "kept");
    CHECK(registered_as(sessions, "a", "one", 1) == first);
    EXPECT(ONCEFLIGHT_REPLAYED, begin(sessions, "a", first, 1));
    CHECK(registered_as(sessions, "b", "one", 1) > first);
    CHECK(state_of(sessions).sessions == 2);
    onceflight_sessions_free(sessions);
}

static void a_later_incarnation_fences_the_earlier(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t first = registered_as(sessions, "a", "one", 0), second;
    execute(sessions, "a", first, 1, "first's");
    second = registered_as(sessions, "a", "two", 0);
    CHECK(second > first && state_of(sessions).sessions == 1 && state_of(sessions).response_bytes == 0);
    EXPECT(ONCEFLIGHT_E_FENCED, begin(sessions, "a", first, 1));
    EXPECT(ONCEFLIGHT_E_FENCED, begin(sessions, "a", 0, 1));
    EXPECT(ONCEFLIGHT_E_FENCED, peek(sessions, "a", first, 1));
    EXPECT(ONCEFLIGHT_E_FENCED, keep_alive(sessions, "a", first, 0));
    EXPECT(ONCEFLIGHT_E_EXPIRED, begin(sessions, "a", second + 1, 1));
    EXPECT(ONCEFLIGHT_LEAD, begin(sessions, "a", second, 1));
    onceflight_sessions_free(sessions); /* with an entry open */
}

static void who_has_no_session_executes_nothing(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t a = registered(sessions, "a");
    EXPECT(ONCEFLIGHT_OK, unregister(sessions, "a"));
    EXPECT(ONCEFLIGHT_E_EXPIRED, unregister(sessions, "a"));
    EXPECT(ONCEFLIGHT_E_EXPIRED, begin(sessions, "a", a, 1));
    EXPECT(ONCEFLIGHT_E_EXPIRED, peek(sessions, "a", a, 1));
    EXPECT(ONCEFLIGHT_E_EXPIRED, keep_alive(sessions, "a", a, 0));
    EXPECT(ONCEFLIGHT_E_EXPIRED, begin(sessions, "never", 1, 1));
    EXPECT(ONCEFLIGHT_E_EXPIRED, begin(sessions, "never", 0, 2)); /* implicitly only by the first request */
    CHECK(state_of(sessions).sessions == 0);
    onceflight_sessions_free(sessions);
}

static void the_window_takes_any_order_and_rises_with_ack(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t a = registered(sessions, "a");
    execute(sessions, "a", a, 4, "4");
    execute(sessions, "a", a, 2, "2");
    EXPECT(ONCEFLIGHT_E_WINDOW_FULL, begin(sessions, "a", a, 5));
    EXPECT(ONCEFLIGHT_OK, peek(sessions, "a", a, 5)); /* which doesn't know what was acknowledged since */
    execute(sessions, "a", a, 1, "1");
    EXPECT(ONCEFLIGHT_REPLAYED, told(sessions, "a", a, 4, 3, NO_DIGEST, 0));
    EXPECT(ONCEFLIGHT_E_SEQ_STALE, begin(sessions, "a", a, 2));
    EXPECT(ONCEFLIGHT_E_SEQ_STALE, peek(sessions, "a", a, 2));
    execute(sessions, "a", a, 6, "6");
    EXPECT(ONCEFLIGHT_E_WINDOW_FULL, begin(sessions, "a", a, 7));
    EXPECT(ONCEFLIGHT_REPLAYED, told(sessions, "a", a, 4, 1, NO_DIGEST, 0)); /* the floor doesn't fall */
    EXPECT(ONCEFLIGHT_E_SEQ_STALE, begin(sessions, "a", a, 1));
    execute(sessions, "a", a, 3, "3");
    CHECK(state_of(sessions).response_bytes == 3);
    onceflight_sessions_free(sessions);
}

static void another_payload_under_the_same_number_is_a_conflict(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t a = registered(sessions, "a");
    EXPECT(ONCEFLIGHT_LEAD, told(sessions, "a", a, 1, 0, DIGEST, 0));
    EXPECT(ONCEFLIGHT_OK, record(sessions, "a", a, 1, 0, "x"));
    EXPECT(ONCEFLIGHT_REPLAYED, told(sessions, "a", a, 1, 0, DIGEST, 0));
    EXPECT(ONCEFLIGHT_E_CONFLICT, told(sessions, "a", a, 1, 0, OTHER_DIGEST, 0));
    EXPECT(ONCEFLIGHT_E_CONFLICT, told(sessions, "a", a, 1, 0, NO_DIGEST, 0));
    execute(sessions, "a", a, 2, "x");
    EXPECT(ONCEFLIGHT_E_CONFLICT, told(sessions, "a", a, 2, 0, DIGEST, 0));
    onceflight_sessions_free(sessions);
}

static void a_request_that_contradicts_itself_is_malformed(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t a = registered(sessions, "a");
    EXPECT(ONCEFLIGHT_E_MALFORMED, begin(sessions, "a", a, 0));
    EXPECT(ONCEFLIGHT_E_MALFORMED, begin(sessions, "a", a, UINT64_MAX));
    EXPECT(ONCEFLIGHT_E_MALFORMED, told(sessions, "a", a, 1, 2, NO_DIGEST, 0));
    EXPECT(ONCEFLIGHT_LEAD, told(sessions, "a", a, 1, 1, NO_DIGEST, 0));
    onceflight_sessions_free(sessions);
}

static void an_open_entry_refuses_every_other_change(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t a = registered(sessions, "a"), number = 77;
    onceflight_response *bytes = GARBAGE;
    execute(sessions, "a", a, 2, "done");
    EXPECT(ONCEFLIGHT_E_INVALID, record(sessions, "a", a, 1, 0, "not begun"));
    EXPECT(ONCEFLIGHT_LEAD, begin(sessions, "a", a, 1));
    EXPECT(ONCEFLIGHT_E_INVALID, begin(sessions, "a", a, 1));
    EXPECT(ONCEFLIGHT_E_INVALID, begin(sessions, "a", a, 2));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_register(sessions, BYTES("b"), BYTES("n"), 0, &number));
    CHECK(number == 0);
    EXPECT(ONCEFLIGHT_E_INVALID, keep_alive(sessions, "a", a, 0));
    EXPECT(ONCEFLIGHT_E_INVALID, unregister(sessions, "a"));
    number = 77;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_expire(sessions, UINT64_MAX, &number));
    CHECK(number == 0);
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_snapshot(sessions, &bytes));
    CHECK(bytes == NULL);
    EXPECT(ONCEFLIGHT_E_INVALID, record(sessions, "a", a, 2, 0, "another number"));
    EXPECT(ONCEFLIGHT_E_INVALID, record(sessions, "a", a + 1, 1, 0, "another incarnation"));
    EXPECT(ONCEFLIGHT_E_INVALID, record(sessions, "b", a, 1, 0, "another client"));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_record(sessions, BYTES("a"), a, 1, 0, NULL, 1));
    /* What only looks goes on. */
    EXPECT(ONCEFLIGHT_REPLAYED, peek(sessions, "a", a, 2));
    EXPECT(ONCEFLIGHT_OK, peek(sessions, "a", a, 1));
    CHECK(state_of(sessions).sessions == 1 && state_of(sessions).now_ms == 0);
    EXPECT(ONCEFLIGHT_OK, record(sessions, "a", a, 1, 0, "done"));
    EXPECT(ONCEFLIGHT_E_INVALID, record(sessions, "a", a, 1, 0, "twice"));
    EXPECT(ONCEFLIGHT_REPLAYED, begin(sessions, "a", a, 1));
    onceflight_sessions_free(sessions);
}

static onceflight_session_limits small(void)
{
    onceflight_session_limits limits = ONCEFLIGHT_SESSION_LIMITS_INIT;
    limits.max_response_len = 4;
    limits.max_session_bytes = 6;
    limits.max_bytes = 9;
    return limits;
}

static void a_response_too_large_is_executed_and_never_again(void)
{
    onceflight_sessions *sessions = with_limits(small());
    uint64_t a = registered(sessions, "a");
    EXPECT(ONCEFLIGHT_LEAD, told(sessions, "a", a, 1, 0, DIGEST, 0));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, record(sessions, "a", a, 1, 0, "12345"));
    EXPECT(ONCEFLIGHT_E_INVALID, record(sessions, "a", a, 1, 0, "it is closed"));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, told(sessions, "a", a, 1, 0, DIGEST, 0));
    EXPECT(ONCEFLIGHT_E_CONFLICT, told(sessions, "a", a, 1, 0, OTHER_DIGEST, 0));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, peek(sessions, "a", a, 1));
    /* Neither is one that its session has no room for. */
    execute(sessions, "a", a, 2, "1234");
    EXPECT(ONCEFLIGHT_LEAD, begin(sessions, "a", a, 3));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, record(sessions, "a", a, 3, 0, "123"));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, begin(sessions, "a", a, 3));
    execute(sessions, "a", a, 4, "12");
    CHECK(state_of(sessions).response_bytes == 6);
    onceflight_sessions_free(sessions);
}

static void too_many_bytes_push_whole_sessions_out(void)
{
    onceflight_sessions *sessions = with_limits(small());
    uint64_t a = registered(sessions, "a"), b = registered(sessions, "b"), c = registered(sessions, "c");
    execute(sessions, "a", a, 1, "1234");
    execute(sessions, "b", b, 1, "1234");
    EXPECT(ONCEFLIGHT_REPLAYED, begin(sessions, "a", a, 1)); /* used later than b's */
    execute(sessions, "c", c, 1, "12");
    CHECK(state_of(sessions).sessions == 2 && state_of(sessions).response_bytes == 6);
    EXPECT(ONCEFLIGHT_E_EXPIRED, begin(sessions, "b", b, 1));
    EXPECT(ONCEFLIGHT_REPLAYED, begin(sessions, "a", a, 1));
    onceflight_sessions_free(sessions);
}

static void one_session_too_many_pushes_the_least_used_out(void)
{
    onceflight_sessions *sessions = NULL;
    uint64_t a, b, c;
    REQUIRE(onceflight_sessions_new(2, 1, FOREVER, &sessions) == ONCEFLIGHT_OK);
    a = registered(sessions, "a");
    b = registered(sessions, "b");
    EXPECT(ONCEFLIGHT_OK, keep_alive(sessions, "a", a, 0));
    EXPECT(ONCEFLIGHT_OK, peek(sessions, "b", b, 1)); /* a look is no use */
    c = registered(sessions, "c");
    EXPECT(ONCEFLIGHT_E_EXPIRED, begin(sessions, "b", b, 1));
    EXPECT(ONCEFLIGHT_OK, peek(sessions, "a", a, 1));
    EXPECT(ONCEFLIGHT_OK, peek(sessions, "c", c, 1));
    onceflight_sessions_free(sessions);
}

static void sessions_expire_by_the_logs_time_alone(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t a = registered_as(sessions, "a", "n", 5000), b = registered_as(sessions, "b", "n", 5000);
    EXPECT(ONCEFLIGHT_OK, keep_alive(sessions, "a", a, 5400));
    EXPECT(ONCEFLIGHT_LEAD, told(sessions, "b", b, 1, 0, NO_DIGEST, 100)); /* time doesn't go back */
    EXPECT(ONCEFLIGHT_OK, record(sessions, "b", b, 1, 0, "x"));
    CHECK(state_of(sessions).now_ms == 5400);
    EXPECT(ONCEFLIGHT_REPLAYED, told(sessions, "b", b, 1, 0, NO_DIGEST, 5800));
    CHECK(expired_by(sessions, 6399) == 0);
    CHECK(expired_by(sessions, 6400) == 1);
    EXPECT(ONCEFLIGHT_E_EXPIRED, begin(sessions, "a", a, 1));
    EXPECT(ONCEFLIGHT_E_EXPIRED, told(sessions, "b", b, 1, 0, NO_DIGEST, 6800)); /* gone before it is looked for */
    CHECK(state_of(sessions).sessions == 0 && state_of(sessions).now_ms == 6800);
    CHECK(expired_by(sessions, FOREVER) == 0);
    onceflight_sessions_free(sessions);
}

static void a_timeout_may_be_the_default_or_none(void)
{
    onceflight_sessions *hour = NULL, *ever = NULL;
    REQUIRE(onceflight_sessions_new(10, 64, ONCEFLIGHT_DEFAULT, &hour) == ONCEFLIGHT_OK);
    REQUIRE(onceflight_sessions_new(10, 1, FOREVER, &ever) == ONCEFLIGHT_OK);
    registered(hour, "a");
    registered(ever, "a");
    CHECK(expired_by(hour, HOUR_MS - 1) == 0 && expired_by(hour, HOUR_MS) == 1);
    CHECK(expired_by(ever, UINT64_MAX - 1) == 0);
    onceflight_sessions_free(hour);
    onceflight_sessions_free(ever);
}

static void a_client_may_register_by_its_first_request(void)
{
    onceflight_sessions *sessions = new_sessions();
    uint64_t seq;
    for (seq = 1; seq <= 9; seq++)
        execute(sessions, "a", 0, seq, "x");
    EXPECT(ONCEFLIGHT_REPLAYED, begin(sessions, "a", 0, 6)); /* its window follows the highest number */
    EXPECT(ONCEFLIGHT_E_SEQ_STALE, begin(sessions, "a", 0, 5));
    EXPECT(ONCEFLIGHT_OK, unregister(sessions, "a"));
    EXPECT(ONCEFLIGHT_E_EXPIRED, begin(sessions, "a", 0, 9));
    onceflight_sessions_free(sessions);
}

int main(void)
{
    RUN(a_request_is_executed_once_and_then_replayed);
    RUN(registering_is_idempotent_by_its_nonce);
    RUN(a_later_incarnation_fences_the_earlier);
    RUN(who_has_no_session_executes_nothing);
    RUN(the_window_takes_any_order_and_rises_with_ack);
    RUN(another_payload_under_the_same_number_is_a_conflict);
    RUN(a_request_that_contradicts_itself_is_malformed);
    RUN(an_open_entry_refuses_every_other_change);
    RUN(a_response_too_large_is_executed_and_never_again);
    RUN(too_many_bytes_push_whole_sessions_out);
    RUN(one_session_too_many_pushes_the_least_used_out);
    RUN(sessions_expire_by_the_logs_time_alone);
    RUN(a_timeout_may_be_the_default_or_none);
    RUN(a_client_may_register_by_its_first_request);
    return check_done("sessions");
}
