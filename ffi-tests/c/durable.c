/* durable URL: what a table promises its callers, unchanged over memory and every store. */
#define _POSIX_C_SOURCE 200809L
#include "durable.h"

#define LINE 3

static void form_line(caller *line, const onceflight_table *table, const char *key)
{
    uint64_t i;
    for (i = 0; i < LINE; i++)
        caller_join_line(&line[i], table, key, i);
}

static void one_leads_some_share_and_the_rest_replay(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    onceflight_stats stats;
    caller line[LINE];
    int i;
    form_line(line, table, key);
    stats = stats_of(table);
    CHECK(stats.in_flight == 1 && stats.waiting == LINE && stats.leads == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, -7, BYTES("done")));
    for (i = 0; i < LINE; i++) {
        EXPECT(ONCEFLIGHT_SHARED, caller_outcome(&line[i]));
        CHECK(line[i].lead == 0 && response_is(line[i].response, -7, "done"));
        CHECK(onceflight_response_data(line[i].response) == onceflight_response_data(line[0].response));
    }
    for (i = 0; i < LINE; i++)
        onceflight_response_free(line[i].response);
    CHECK(replays(table, key, -7, "done") && replays(table, key, -7, "done"));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, lead, 0, BYTES("again")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_cancel(table, lead));
    CHECK(replays(table, key, -7, "done"));
    stats = stats_of(table);
    CHECK(stats.leads == 1 && stats.shared == LINE && stats.replayed == 3 && stats.stale == 2);
    CHECK(stats.in_flight == 0 && stats.waiting == 0 && stats.takeovers == 0 && stats.promotions == 0);
    onceflight_table_free(table);
}

/* Keys and responses are any bytes, compared and given back whole. */
static void bytes_are_kept_as_they_are(void)
{
    onceflight_table *table = opened();
    onceflight_request request = request_for("");
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    uint8_t key[320], body[256];
    char name[64];
    int i, outcome;
    snprintf(name, sizeof name, "%s", new_key());
    memset(key, 0, sizeof key);
    memcpy(key, name, strlen(name));
    for (i = 0; i < 256; i++)
        key[64 + i] = body[i] = (uint8_t)i;
    request.key = key;
    request.key_len = sizeof key;
    lead = lead_by(table, request);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, INT32_MIN, body, sizeof body));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin_request(table, &request, &lead, &response));
    CHECK(onceflight_response_len(response) == sizeof body && onceflight_response_status(response) == INT32_MIN);
    CHECK(memcmp(onceflight_response_data(response), body, sizeof body) == 0);
    onceflight_response_free(response);

    /* Another last byte, and a byte less: other keys. Nothing of length 0 is a response too. */
    request.key_len--;
    lead = lead_by(table, request);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin_request(table, &request, &lead, &response));
    CHECK(onceflight_response_len(response) == 0 && onceflight_response_data(response) != NULL);
    onceflight_response_free(response);
    request.key_len++;
    key[sizeof key - 1]++;
    EXPECT(ONCEFLIGHT_LEAD, probe_request(table, request));

    /* The empty key is one like any other, though not this run's alone. */
    outcome = probe(table, "");
    CHECK(outcome == ONCEFLIGHT_LEAD || outcome == ONCEFLIGHT_REPLAYED || outcome == ONCEFLIGHT_E_TIMEOUT);
    onceflight_table_free(table);
}

static void another_fingerprint_is_a_mismatch_before_anything_else(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_max_waiters, 1, NULL, 0);
    const char *key = new_key();
    onceflight_request same = with_fingerprint(request_for(key), "one"), other = with_fingerprint(same, "two");
    onceflight_request empty = with_fingerprint(same, ""), absent = with_fingerprint(same, NULL);
    onceflight_lead lead = lead_by(table, same), none = 77;
    onceflight_response *response = GARBAGE;
    caller follower;
    caller_start_request(&follower, table, same);
    await_waiting(table, 1);
    EXPECT(ONCEFLIGHT_E_MISMATCH, onceflight_begin_request(table, &other, &none, &response));
    CHECK(none == 0 && response == NULL);
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, empty));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, absent));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe_request(table, same));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 1, BYTES("one's")));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 1, "one's"));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, absent));
    EXPECT(ONCEFLIGHT_REPLAYED, probe_request(table, same));

    /* An absent fingerprint equals only an absent one. */
    absent.key = other.key = (const uint8_t *)new_key();
    absent.key_len = other.key_len = strlen((const char *)absent.key);
    lead = lead_by(table, absent);
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe_request(table, absent));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));

    /* Nothing happened, so the next one's payload is the key's. */
    EXPECT(ONCEFLIGHT_LEAD, probe_request(table, other));
    onceflight_table_free(table);
}

static void a_deadline_ends_one_wait_and_no_other(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key), none = 77;
    onceflight_request request = request_for(key);
    onceflight_response *response = GARBAGE;
    caller patient;
    double start;
    caller_join_line(&patient, table, key, 0);
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, key));
    request.timeout_ms = 30;
    start = now_ms();
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin_request(table, &request, &none, &response));
    CHECK(now_ms() - start >= 29 && none == 0 && response == NULL);
    CHECK(stats_of(table).timeouts == 2 && stats_of(table).waiting == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 3, BYTES("late")));
    CHECK(caller_got(&patient, ONCEFLIGHT_SHARED, 3, "late"));
    onceflight_table_free(table);
}

/* Each successor is one attempt more, has a higher fence and what the leader before it left. */
static void promotes_in_order_of_arrival(uint64_t ttl_ms)
{
    onceflight_table *table = opened_with(onceflight_options_set_completed_ttl_ms, ttl_ms, NULL, 0);
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    uint64_t fence = 0;
    caller line[LINE];
    uint32_t i;
    CHECK(attempt_above(table, lead, &fence) == 1);
    form_line(line, table, key);
    for (i = 0; i < LINE; i++) {
        EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
        EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&line[i]));
        CHECK(line[i].response == NULL && line[i].lead != 0 && line[i].lead != lead);
        EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, lead, 0, NULL, 0));
        lead = line[i].lead;
        CHECK(attempt_above(table, lead, &fence) == i + 2);
    }
    CHECK(stats_of(table).promotions == LINE && stats_of(table).leads == LINE + 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    CHECK(stats_of(table).in_flight == 0 && stats_of(table).cancels == LINE + 1);

    /* A new flight counts its attempts anew; the fence of the key never goes back. */
    lead = lead_of(table, key);
    CHECK(attempt_above(table, lead, &fence) == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    onceflight_table_free(table);
}

static void a_cancel_promotes_in_order_of_arrival(void)
{
    promotes_in_order_of_arrival(HOUR_MS);
}

static void a_cancel_promotes_though_nothing_is_retained(void)
{
    promotes_in_order_of_arrival(0);
}

static void a_cancel_fails_all_by_option(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_on_cancel, ONCEFLIGHT_FAIL_ALL, NULL, 0);
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    caller line[LINE];
    int i;
    form_line(line, table, key);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    for (i = 0; i < LINE; i++) {
        EXPECT(ONCEFLIGHT_E_CANCELLED, caller_outcome(&line[i]));
        CHECK(line[i].lead == 0 && line[i].response == NULL);
    }
    EXPECT(ONCEFLIGHT_LEAD, probe(table, key));
    onceflight_table_free(table);
}

static void an_abandoned_flight_passes_on(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    uint64_t fence = 0;
    caller first, second;
    CHECK(attempt_above(table, lead, &fence) == 1);
    caller_join_line(&first, table, key, 0);
    caller_join_line(&second, table, key, 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&first));
    CHECK(attempt_above(table, first.lead, &fence) == 2);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_abandon(table, lead));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, first.lead, 5, BYTES("second attempt")));
    CHECK(caller_got(&second, ONCEFLIGHT_SHARED, 5, "second attempt"));

    /* With nobody in line, to the next begin. */
    key = new_key();
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead_of(table, key)));
    lead = lead_of(table, key);
    CHECK(details_of(table, lead).attempt == 2);
    CHECK(stats_of(table).takeovers == 2 && stats_of(table).promotions == 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    onceflight_table_free(table);
}

/* Those who wait have the response, and nobody else: the key is free, and its next leader the first. */
static void a_cancel_with_a_response_gives_it_to_those_who_wait(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    uint64_t fence = 0;
    caller line[LINE];
    int i;
    CHECK(attempt_above(table, lead, &fence) == 1);
    form_line(line, table, key);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel_with(table, lead, 503, BYTES("not now")));
    for (i = 0; i < LINE; i++)
        CHECK(caller_got(&line[i], ONCEFLIGHT_SHARED, 503, "not now"));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_cancel_with(table, lead, 503, BYTES("again")));
    CHECK(stats_of(table).cancels == 1 && stats_of(table).shared == LINE && stats_of(table).promotions == 0);
    CHECK(stats_of(table).in_flight == 0 && stats_of(table).completed == 0);
    lead = lead_of(table, key);
    CHECK(attempt_above(table, lead, &fence) == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel_with(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_LEAD, probe(table, key));
    onceflight_table_free(table);
}

/* The same, but it may have happened: the next begin takes over, with what was left for it. */
static void an_abandon_with_a_response_gives_it_to_those_who_wait(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_request same = with_fingerprint(request_for(key), "one"), other = with_fingerprint(same, "two");
    onceflight_lead lead = lead_by(table, same);
    onceflight_lead_info info;
    uint64_t fence = 0;
    caller line[LINE];
    uint64_t i;
    CHECK(attempt_above(table, lead, &fence) == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_checkpoint(table, lead, BYTES("half done")));
    for (i = 0; i < LINE; i++) {
        caller_start_request(&line[i], table, same);
        await_waiting(table, i + 1);
    }
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon_with(table, lead, 500, BYTES("broke")));
    for (i = 0; i < LINE; i++)
        CHECK(caller_got(&line[i], ONCEFLIGHT_SHARED, 500, "broke"));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_abandon_with(table, lead, 500, BYTES("again")));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    lead = lead_by(table, same);
    CHECK(attempt_above(table, lead, &fence) == 2);
    info = details_of(table, lead);
    CHECK(response_is(info.checkpoint, 0, "half done"));
    onceflight_response_free(info.checkpoint);
    CHECK(stats_of(table).takeovers == 1 && stats_of(table).promotions == 0 && stats_of(table).shared == LINE);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 200, BYTES("done")));
    onceflight_table_free(table);
}

/* Under HOLD nobody takes over, those who waited have the response all the same. */
static void an_abandon_with_a_response_is_held_by_policy(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_on_lease_expired, ONCEFLIGHT_HOLD, NULL, 0);
    const char *key = new_key();
    onceflight_request request = request_for(key);
    onceflight_lead lead = lead_of(table, key);
    caller follower;
    caller_join_line(&follower, table, key, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon_with(table, lead, 500, BYTES("broke")));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 500, "broke"));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, probe(table, key));
    request.flags = ONCEFLIGHT_RECOVER;
    lead = lead_by(table, request);
    CHECK(details_of(table, lead).attempt == 2);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel_with(table, lead, 0, NULL, 0));
    onceflight_table_free(table);
}

/* A forgotten flight's followers have it too; who came since is not concerned. */
static void a_forgotten_flight_settles_with_a_response(int32_t (*settle)(const onceflight_table *, onceflight_lead, int32_t,
                                                                          const uint8_t *, size_t))
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key), since;
    caller follower;
    caller_join_line(&follower, table, key, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_forget(table, (const uint8_t *)key, strlen(key)));
    since = lead_of(table, key);
    EXPECT(ONCEFLIGHT_OK, settle(table, lead, 500, BYTES("forgotten")));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 500, "forgotten"));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, since, 200, BYTES("since")));
    CHECK(replays(table, key, 200, "since"));
    onceflight_table_free(table);
}

static void forgotten_flights_settle_with_a_response(void)
{
    a_forgotten_flight_settles_with_a_response(onceflight_cancel_with);
    a_forgotten_flight_settles_with_a_response(onceflight_abandon_with);
}

static void a_declined_flight_lets_everybody_pass(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    caller line[LINE];
    int i;
    form_line(line, table, key);
    EXPECT(ONCEFLIGHT_OK, onceflight_decline(table, lead));
    for (i = 0; i < LINE; i++) {
        EXPECT(ONCEFLIGHT_BYPASS, caller_outcome(&line[i]));
        CHECK(line[i].lead == 0 && line[i].response == NULL);
    }
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_decline(table, lead));
    CHECK(stats_of(table).bypassed == LINE && stats_of(table).in_flight == 0);
    EXPECT(ONCEFLIGHT_LEAD, probe(table, key));
    onceflight_table_free(table);
}

static void what_is_too_large_leaves_the_lead_live(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_max_response_len, 8, onceflight_options_set_max_key_len, 64);
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key), none = 77;
    onceflight_response *response = GARBAGE;
    onceflight_lead_info info;
    uint8_t long_key[65] = {0};
    caller follower;
    caller_join_line(&follower, table, key, 0);
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_complete(table, lead, 0, BYTES("123456789")));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_complete_for(table, lead, 0, BYTES("123456789"), 0));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_cancel_with(table, lead, 0, BYTES("123456789")));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_abandon_with(table, lead, 0, BYTES("123456789")));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_checkpoint(table, lead, BYTES("123456789")));
    info = details_of(table, lead);
    CHECK(info.checkpoint == NULL);
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_begin(table, long_key, sizeof long_key, 0, &none, &response));
    CHECK(none == 0 && response == NULL && stats_of(table).waiting == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, BYTES("12345678")));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 0, "12345678"));
    onceflight_table_free(table);
}

static void a_response_is_replayed_for_its_ttl_and_no_longer(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_completed_ttl_ms, 300, NULL, 0);
    const char *key = new_key(), *longer = new_key(), *shorter = new_key();
    onceflight_request request = request_for(longer);
    double start;
    request.ttl_ms = HOUR_MS;
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead_by(table, request), 0, BYTES("the request's")));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete_for(table, lead_of(table, shorter), 0, BYTES("own"), 100));
    start = now_ms();
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead_of(table, key), 0, BYTES("the table's")));
    while (probe(table, key) == ONCEFLIGHT_REPLAYED)
        sched_yield();
    CHECK(now_ms() - start >= 294);
    EXPECT(ONCEFLIGHT_LEAD, probe(table, shorter));
    CHECK(replays(table, longer, 0, "the request's"));
    onceflight_table_free(table);
}

static void a_ttl_of_zero_shares_and_retains_nothing(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    uint64_t fence = 0;
    caller follower;
    CHECK(attempt_above(table, lead, &fence) == 1);
    caller_join_line(&follower, table, key, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete_for(table, lead, 9, BYTES("once"), 0));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 9, "once"));
    lead = lead_of(table, key);
    CHECK(attempt_above(table, lead, &fence) == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    onceflight_table_free(table);
}

static void forget_drops_a_response(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    uint64_t fence = 0;
    onceflight_lead lead = lead_of(table, key);
    CHECK(attempt_above(table, lead, &fence) == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, BYTES("dropped")));
    EXPECT(ONCEFLIGHT_OK, onceflight_forget(table, (const uint8_t *)key, strlen(key)));
    EXPECT(ONCEFLIGHT_OK, onceflight_forget(table, (const uint8_t *)key, strlen(key)));
    lead = lead_of(table, key);
    CHECK(attempt_above(table, lead, &fence) == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    onceflight_table_free(table);
}

static void limits_are_told(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_max_in_flight, 1, onceflight_options_set_max_waiters, 1);
    const char *key = new_key(), *other = new_key();
    onceflight_lead lead = lead_of(table, key), none = 77;
    onceflight_response *response = GARBAGE;
    caller follower;
    EXPECT(ONCEFLIGHT_E_OVERLOADED, probe(table, other));
    caller_join_line(&follower, table, key, 0);
    EXPECT(ONCEFLIGHT_E_OVERLOADED,
           onceflight_begin(table, (const uint8_t *)key, strlen(key), FOREVER, &none, &response));
    CHECK(none == 0 && response == NULL);
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, key));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 0, ""));
    EXPECT(ONCEFLIGHT_LEAD, probe(table, other));
    onceflight_table_free(table);
}

static void waiting_for_oneself_is_refused(void)
{
    onceflight_table *table = opened();
    onceflight_request request = request_for(new_key());
    onceflight_lead lead, none = 77;
    onceflight_response *response = GARBAGE;
    request.flags = ONCEFLIGHT_SAME_THREAD;
    lead = lead_by(table, request);
    EXPECT(ONCEFLIGHT_E_WOULD_DEADLOCK, onceflight_begin_request(table, &request, &none, &response));
    CHECK(none == 0 && response == NULL);
    request.timeout_ms = HOUR_MS;
    EXPECT(ONCEFLIGHT_E_WOULD_DEADLOCK, onceflight_begin_request(table, &request, &none, &response));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe_request(table, request));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin_request(table, &request, &none, &response));
    onceflight_response_free(response);
    onceflight_table_free(table);
}

/* Leads one key, and when the other thread leads its own waits for that. */
typedef struct ring_half {
    const onceflight_table *table;
    onceflight_request own, other;
    pthread_barrier_t *both_lead;
    int32_t outcome;
} ring_half;

static void *close_half(void *argument)
{
    ring_half *half = (ring_half *)argument;
    onceflight_lead lead = lead_by(half->table, half->own), other = 0;
    onceflight_response *response = NULL;
    pthread_barrier_wait(half->both_lead);
    half->outcome = onceflight_begin_request(half->table, &half->other, &other, &response);
    onceflight_response_free(response);
    if (onceflight_complete(half->table, lead, 0, NULL, 0) != ONCEFLIGHT_OK)
        half->outcome = ONCEFLIGHT_E_PANIC;
    return NULL;
}

static void a_ring_of_waits_is_broken_at_one_place(void)
{
    onceflight_table *table = opened();
    pthread_barrier_t both_lead;
    ring_half one, two;
    pthread_t thread;
    memset(&one, 0, sizeof one);
    one.table = table;
    one.both_lead = &both_lead;
    one.own = request_for(new_key());
    one.other = request_for(new_key());
    one.own.flags = one.other.flags = ONCEFLIGHT_SAME_THREAD;
    two = one;
    two.own = one.other;
    two.other = one.own;
    REQUIRE(pthread_barrier_init(&both_lead, NULL, 2) == 0);
    REQUIRE(pthread_create(&thread, NULL, close_half, &one) == 0);
    close_half(&two);
    REQUIRE(pthread_join(thread, NULL) == 0);
    pthread_barrier_destroy(&both_lead);
    CHECK((one.outcome == ONCEFLIGHT_E_WOULD_DEADLOCK && two.outcome == ONCEFLIGHT_SHARED) ||
          (two.outcome == ONCEFLIGHT_E_WOULD_DEADLOCK && one.outcome == ONCEFLIGHT_SHARED));
    onceflight_table_free(table);
}

static void a_lead_of_another_table_is_stale(void)
{
    onceflight_table *table = opened(), *other = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(other, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_lead_details(other, lead, &info));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, 0, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, key));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    onceflight_table_free(table);
    onceflight_table_free(other);
}

static void close_wakes_who_waits_and_leads_still_settle(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    caller line[LINE];
    int i;
    form_line(line, table, key);
    EXPECT(ONCEFLIGHT_OK, onceflight_table_close(table));
    for (i = 0; i < LINE; i++) {
        EXPECT(ONCEFLIGHT_E_CLOSED, caller_outcome(&line[i]));
        CHECK(line[i].lead == 0 && line[i].response == NULL);
    }
    EXPECT(ONCEFLIGHT_E_CLOSED, probe(table, new_key()));
    EXPECT(ONCEFLIGHT_E_CLOSED, probe(table, key));
    EXPECT(ONCEFLIGHT_OK, onceflight_table_close(table));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 6, BYTES("after all")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, lead, 6, BYTES("again")));
    onceflight_table_free(table);

    table = opened();
    if (in_memory())
        EXPECT(ONCEFLIGHT_LEAD, probe(table, key));
    else
        CHECK(replays(table, key, 6, "after all"));
    onceflight_table_free(table);
}

static void free_wakes_who_is_blocked_and_abandons_what_is_led(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    uint64_t fence = 0;
    caller line[LINE];
    int i;
    CHECK(attempt_above(table, lead, &fence) == 1);
    form_line(line, table, key);
    onceflight_table_free(table);
    for (i = 0; i < LINE; i++)
        EXPECT(ONCEFLIGHT_E_CLOSED, caller_outcome(&line[i]));
    table = opened();
    lead = lead_of(table, key);
    if (!in_memory())
        CHECK(attempt_above(table, lead, &fence) == 2);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    onceflight_table_free(table);
}

/* For transactions of a program's own. What the statements do is tested where there is such a program, in Python. */
static void statements_are_given_as_text(void)
{
    const char *statement = is("sqlite:") ? "look" : "claim", *parameter = is("sqlite:") ? ":token" : "$5";
    char text[4096];
    size_t size = 0, needed;
    EXPECT(ONCEFLIGHT_E_BUFFER, onceflight_sql(url, statement, NULL, &size));
    needed = size;
    REQUIRE(needed > 1 && needed < sizeof text);
    memset(text, 'x', sizeof text);
    size = needed - 1;
    EXPECT(ONCEFLIGHT_E_BUFFER, onceflight_sql(url, statement, text, &size));
    CHECK(size == needed && text[0] == 'x');
    EXPECT(ONCEFLIGHT_OK, onceflight_sql(url, statement, text, &size));
    CHECK(size == needed && strlen(text) == needed - 1 && text[needed] == 'x' && strstr(text, parameter) != NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sql(url, statement, NULL, &size));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sql(url, "no such statement", text, &size));
    CHECK(size == 0);
    EXPECT(ONCEFLIGHT_E_UNSUPPORTED, onceflight_sql("memory:", statement, text, &size));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sql(NULL, statement, text, &size));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sql(url, NULL, text, &size));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sql(url, statement, text, NULL));
}

int main(int argc, char **argv)
{
    REQUIRE(has_url(argc, argv));
    RUN(one_leads_some_share_and_the_rest_replay);
    RUN(bytes_are_kept_as_they_are);
    RUN(another_fingerprint_is_a_mismatch_before_anything_else);
    RUN(a_deadline_ends_one_wait_and_no_other);
    RUN(a_cancel_promotes_in_order_of_arrival);
    RUN(a_cancel_promotes_though_nothing_is_retained);
    RUN(a_cancel_fails_all_by_option);
    RUN(an_abandoned_flight_passes_on);
    RUN(a_cancel_with_a_response_gives_it_to_those_who_wait);
    RUN(an_abandon_with_a_response_gives_it_to_those_who_wait);
    RUN(an_abandon_with_a_response_is_held_by_policy);
    if (in_memory())
        RUN(forgotten_flights_settle_with_a_response);
    RUN(a_declined_flight_lets_everybody_pass);
    RUN(what_is_too_large_leaves_the_lead_live);
    RUN(a_response_is_replayed_for_its_ttl_and_no_longer);
    RUN(a_ttl_of_zero_shares_and_retains_nothing);
    RUN(forget_drops_a_response);
    RUN(limits_are_told);
    RUN(waiting_for_oneself_is_refused);
    RUN(a_ring_of_waits_is_broken_at_one_place);
    RUN(a_lead_of_another_table_is_stale);
    RUN(close_wakes_who_waits_and_leads_still_settle);
    RUN(free_wakes_who_is_blocked_and_abandons_what_is_led);
    if (is("sqlite:") || is("postgres:"))
        RUN(statements_are_given_as_text);
    return check_done("durable");
}
