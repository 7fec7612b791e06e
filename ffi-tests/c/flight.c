/* Leaders and followers: what each settlement does to those in line, and what forget, decline, mismatches,
 * deadlines and deadlocks look like from C. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

#define LINE 3

static void form_line(caller *line, const onceflight_table *table, const char *key)
{
    uint64_t i;
    for (i = 0; i < LINE; i++)
        caller_join_line(&line[i], table, key, i);
}

static void followers_share_one_response(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    caller line[LINE];
    int i;
    form_line(line, table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 200, BYTES("shared")));
    for (i = 0; i < LINE; i++) {
        EXPECT(ONCEFLIGHT_SHARED, caller_outcome(&line[i]));
        CHECK(line[i].lead == 0 && response_is(line[i].response, 200, "shared"));
        CHECK(onceflight_response_data(line[i].response) == onceflight_response_data(line[0].response));
    }
    for (i = 0; i < LINE; i++)
        onceflight_response_free(line[i].response);
    CHECK(stats_of(table).shared == LINE && stats_of(table).leads == 1 && stats_of(table).waiting == 0);
    onceflight_table_free(table);
}

static void a_cancel_promotes_in_order_of_arrival(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    uint64_t fence = details_of(table, lead).fence;
    caller line[LINE];
    int i;
    form_line(line, table, "key");
    for (i = 0; i < LINE; i++) {
        onceflight_lead_info info;
        EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
        EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&line[i]));
        CHECK(line[i].response == NULL && line[i].lead != 0 && line[i].lead != lead);
        EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, lead, 0, NULL, 0));
        lead = line[i].lead;
        info = details_of(table, lead);
        CHECK(info.attempt == (uint32_t)i + 2 && info.fence > fence && info.checkpoint == NULL);
        fence = info.fence;
    }
    CHECK(stats_of(table).promotions == LINE && stats_of(table).leads == LINE + 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    CHECK(stats_of(table).in_flight == 0 && stats_of(table).cancels == LINE + 1);

    /* A new flight counts its attempts anew; the fence of the key never goes back. */
    lead = lead_of(table, "key");
    CHECK(details_of(table, lead).attempt == 1 && details_of(table, lead).fence > fence);
    onceflight_table_free(table);
}

static void a_cancel_fails_all_by_option(void)
{
    onceflight_table *table = table_with(onceflight_options_set_on_cancel, ONCEFLIGHT_FAIL_ALL, NULL, 0);
    onceflight_lead lead = lead_of(table, "key");
    caller line[LINE];
    int i;
    form_line(line, table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    for (i = 0; i < LINE; i++) {
        EXPECT(ONCEFLIGHT_E_CANCELLED, caller_outcome(&line[i]));
        CHECK(line[i].lead == 0 && line[i].response == NULL);
    }
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "key"));
    onceflight_table_free(table);
}

static void an_abandoned_flight_passes_to_the_first_in_line(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    caller first, second;
    caller_join_line(&first, table, "key", 0);
    caller_join_line(&second, table, "key", 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&first));
    CHECK(details_of(table, first.lead).attempt == 2);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_abandon(table, lead));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, first.lead, 5, BYTES("second attempt")));
    CHECK(caller_got(&second, ONCEFLIGHT_SHARED, 5, "second attempt"));
    onceflight_table_free(table);
}

static void an_abandoned_flight_nobody_waits_for_passes_to_the_next_begin(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    uint64_t fence = details_of(table, lead).fence;
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
    lead = lead_of(table, "key");
    CHECK(details_of(table, lead).attempt == 2 && details_of(table, lead).fence > fence);
    onceflight_table_free(table);
}

static void a_declined_flight_lets_everybody_pass(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_lead lead = lead_of(table, "key");
    caller line[LINE];
    int i;
    form_line(line, table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_decline(table, lead));
    for (i = 0; i < LINE; i++) {
        EXPECT(ONCEFLIGHT_BYPASS, caller_outcome(&line[i]));
        CHECK(line[i].lead == 0 && line[i].response == NULL);
    }
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_decline(table, lead));
    CHECK(stats_of(table).bypassed == LINE && stats_of(table).in_flight == 0);
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "key"));
    onceflight_table_free(table);
}

static void a_follower_that_times_out_disturbs_nobody(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key"), none = 77;
    onceflight_response *response = GARBAGE;
    double start = now_ms();
    caller patient;
    caller_join_line(&patient, table, "key", 0);
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin(table, BYTES("key"), 20, &none, &response));
    CHECK(now_ms() - start >= 19 && none == 0 && response == NULL);
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin(table, BYTES("key"), 0, &none, &response));
    CHECK(stats_of(table).timeouts == 2 && stats_of(table).waiting == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, BYTES("late")));
    CHECK(caller_got(&patient, ONCEFLIGHT_SHARED, 0, "late"));
    onceflight_table_free(table);
}

static void a_key_reused_with_another_payload_is_a_mismatch(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS,
                                         onceflight_options_set_max_waiters, 1);
    onceflight_request original = request_for("key"), other = request_for("key"), absent = request_for("key");
    onceflight_request empty = request_for("key");
    onceflight_lead lead = 0, none = 0;
    onceflight_response *response = NULL;
    caller follower;
    original.fingerprint = (const uint8_t *)"one";
    original.fingerprint_len = 3;
    other.fingerprint = (const uint8_t *)"two";
    other.fingerprint_len = 3;
    /* Present and empty is not absent. */
    empty.fingerprint = (const uint8_t *)"";
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &original, &lead, &response));
    caller_start_request(&follower, table, original);
    await_waiting(table, 1);
    /* MISMATCH comes before TIMEOUT, and before OVERLOADED now that the line is full. */
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, absent));
    EXPECT(ONCEFLIGHT_E_MISMATCH, onceflight_begin_request(table, &other, &none, &response));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe_request(table, original));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, BYTES("one")));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 0, "one"));
    EXPECT(ONCEFLIGHT_REPLAYED, probe_request(table, original));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, absent));
    onceflight_table_free(table);

    table = new_table(NULL);
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &absent, &lead, &response));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, empty));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe_request(table, absent));
    onceflight_table_free(table);
}

static void a_checkpoint_reaches_the_successor(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_lead_info info;
    EXPECT(ONCEFLIGHT_OK, onceflight_checkpoint(table, lead, BYTES("step 1")));
    EXPECT(ONCEFLIGHT_OK, onceflight_checkpoint(table, lead, BYTES("step 2")));
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_checkpoint(table, lead, BYTES("too late")));
    lead = lead_of(table, "key");
    info = details_of(table, lead);
    CHECK(info.attempt == 2 && response_is(info.checkpoint, onceflight_response_status(info.checkpoint), "step 2"));
    onceflight_response_free(info.checkpoint);
    /* A checkpoint of no bytes is one. */
    EXPECT(ONCEFLIGHT_OK, onceflight_checkpoint(table, lead, NULL, 0));
    info = details_of(table, lead);
    CHECK(info.checkpoint != NULL && onceflight_response_len(info.checkpoint) == 0);
    onceflight_response_free(info.checkpoint);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    lead = lead_of(table, "key");
    info = details_of(table, lead);
    CHECK(info.attempt == 1 && info.checkpoint == NULL);
    onceflight_table_free(table);
}

static void forget_drops_a_completed_response(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_forget(table, BYTES("key")));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead_of(table, "key"), 0, NULL, 0));
    EXPECT(ONCEFLIGHT_REPLAYED, probe(table, "key"));
    EXPECT(ONCEFLIGHT_OK, onceflight_forget(table, BYTES("key")));
    CHECK(stats_of(table).completed == 0 && stats_of(table).completed_bytes == 0);
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "key"));
    onceflight_table_free(table);
}

static void forget_detaches_a_flight(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_lead detached = lead_of(table, "key"), fresh, none = 0;
    onceflight_response *response = NULL;
    caller old, new;
    caller_join_line(&old, table, "key", 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_forget(table, BYTES("key")));
    fresh = lead_of(table, "key");
    CHECK(details_of(table, fresh).attempt == 1);
    CHECK(details_of(table, fresh).fence > details_of(table, detached).fence);
    caller_join_line(&new, table, "key", 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, detached, 1, BYTES("old")));
    CHECK(caller_got(&old, ONCEFLIGHT_SHARED, 1, "old"));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, "key"));
    CHECK(stats_of(table).completed == 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, fresh, 2, BYTES("new")));
    CHECK(caller_got(&new, ONCEFLIGHT_SHARED, 2, "new"));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin(table, BYTES("key"), 0, &none, &response));
    CHECK(response_is(response, 2, "new"));
    onceflight_response_free(response);
    onceflight_table_free(table);
}

static void followers_of_a_detached_flight_that_fails_begin_again(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead detached = lead_of(table, "key");
    caller old;
    caller_join_line(&old, table, "key", 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_forget(table, BYTES("key")));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, detached));
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&old));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, old.lead, 0, NULL, 0));
    CHECK(stats_of(table).in_flight == 0 && stats_of(table).waiting == 0);
    onceflight_table_free(table);
}

/* From before the completion to the first answer that isn't a replay: not early, and from after it, not late. */
static void a_response_is_never_replayed_past_its_ttl(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    const double ttl = 50;
    double before = now_ms(), completed, begun;
    int32_t outcome;
    EXPECT(ONCEFLIGHT_OK, onceflight_complete_for(table, lead, 0, BYTES("x"), (uint64_t)ttl));
    completed = now_ms();
    do {
        begun = now_ms();
        outcome = probe(table, "key");
        CHECK(outcome == ONCEFLIGHT_LEAD || (outcome == ONCEFLIGHT_REPLAYED && begun - completed <= ttl));
    } while (outcome == ONCEFLIGHT_REPLAYED);
    CHECK(now_ms() - before >= ttl - 5);
    onceflight_table_free(table);
}

static void memory_is_given_back_without_a_look_up(void)
{
    onceflight_table *table = new_table(NULL);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete_for(table, lead_of(table, "key"), 0, BYTES("x"), 20));
    while (stats_of(table).completed != 0 || stats_of(table).completed_bytes != 0)
        sched_yield();
    CHECK(stats_of(table).leads == 1);
    onceflight_table_free(table);
}

static void the_ttl_of_a_request_and_of_a_completion_override_the_tables(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_request brief = request_for("brief");
    onceflight_lead lead = lead_of(table, "key");
    onceflight_response *response = NULL;
    caller follower;
    caller_join_line(&follower, table, "key", 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete_for(table, lead, 3, BYTES("shared, not kept"), 0));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 3, "shared, not kept"));
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "key"));

    brief.ttl_ms = 0;
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &brief, &lead, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "brief"));
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &brief, &lead, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete_for(table, lead, 0, NULL, 0, FOREVER));
    EXPECT(ONCEFLIGHT_REPLAYED, probe(table, "brief"));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete_for(table, lead_of(table, "key"), 0, NULL, 0, ONCEFLIGHT_DEFAULT));
    EXPECT(ONCEFLIGHT_REPLAYED, probe(table, "key"));
    onceflight_table_free(table);
}

static void a_thread_that_waits_for_itself_is_told(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_request request = request_for("key");
    onceflight_lead lead = 0, none = 77;
    onceflight_response *response = GARBAGE;
    request.flags = ONCEFLIGHT_SAME_THREAD;
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &request, &lead, &response));
    EXPECT(ONCEFLIGHT_E_WOULD_DEADLOCK, onceflight_begin_request(table, &request, &none, &response));
    CHECK(none == 0 && response == NULL && stats_of(table).waiting == 0);
    /* Without waiting there is nothing to hang. */
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe_request(table, request));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &request, &lead, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    onceflight_table_free(table);
}

static onceflight_request same_thread(const char *key)
{
    onceflight_request request = request_for(key);
    request.flags = ONCEFLIGHT_SAME_THREAD;
    return request;
}

/* Leads "a", then waits for "b". */
static void *lead_a_wait_for_b(void *argument)
{
    caller *self = (caller *)argument;
    onceflight_request a = same_thread("a"), b = same_thread("b");
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    if (onceflight_begin_request(self->table, &a, &lead, &response) != ONCEFLIGHT_LEAD)
        return NULL;
    self->outcome = onceflight_begin_request(self->table, &b, &self->lead, &self->response);
    onceflight_complete(self->table, lead, 0, NULL, 0);
    return NULL;
}

static void a_cycle_of_threads_is_told(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_request a = same_thread("a"), b = same_thread("b");
    onceflight_lead lead = 0, none = 0;
    onceflight_response *response = NULL;
    int32_t told;
    caller other;
    memset(&other, 0, sizeof other);
    other.table = table;
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &b, &lead, &response));
    REQUIRE(pthread_create(&other.thread, NULL, lead_a_wait_for_b, &other) == 0);
    await_waiting(table, 1);
    /* It is in line, and perhaps not asleep yet: whichever of the two closes the ring is told. */
    told = onceflight_begin_request(table, &a, &none, &response);
    if (told == ONCEFLIGHT_E_WOULD_DEADLOCK) {
        EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 9, BYTES("b")));
        CHECK(caller_got(&other, ONCEFLIGHT_SHARED, 9, "b"));
    } else {
        EXPECT(ONCEFLIGHT_SHARED, told);
        onceflight_response_free(response);
        EXPECT(ONCEFLIGHT_E_WOULD_DEADLOCK, caller_outcome(&other));
        EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 9, BYTES("b")));
    }
    onceflight_table_free(table);
}

int main(void)
{
    RUN(followers_share_one_response);
    RUN(a_cancel_promotes_in_order_of_arrival);
    RUN(a_cancel_fails_all_by_option);
    RUN(an_abandoned_flight_passes_to_the_first_in_line);
    RUN(an_abandoned_flight_nobody_waits_for_passes_to_the_next_begin);
    RUN(a_declined_flight_lets_everybody_pass);
    RUN(a_follower_that_times_out_disturbs_nobody);
    RUN(a_key_reused_with_another_payload_is_a_mismatch);
    RUN(a_checkpoint_reaches_the_successor);
    RUN(forget_drops_a_completed_response);
    RUN(forget_detaches_a_flight);
    RUN(followers_of_a_detached_flight_that_fails_begin_again);
    RUN(a_response_is_never_replayed_past_its_ttl);
    RUN(memory_is_given_back_without_a_look_up);
    RUN(the_ttl_of_a_request_and_of_a_completion_override_the_tables);
    RUN(a_thread_that_waits_for_itself_is_told);
    RUN(a_cycle_of_threads_is_told);
    return check_done("flight");
}
