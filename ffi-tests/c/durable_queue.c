/* durable_queue URL: begin_async and the queue, unchanged over memory and every store. Over a store every answer
 * is PENDING, in memory only those that have to wait: `asked` makes one event of both. */
#define _POSIX_C_SOURCE 200809L
#include "durable.h"

#define HANG_MS (HANG_SECONDS * 1000)

static onceflight_queue *new_queue(void)
{
    onceflight_queue *queue = NULL;
    REQUIRE(onceflight_queue_new(&queue) == ONCEFLIGHT_OK && queue != NULL);
    return queue;
}

static void pend(const onceflight_table *table, onceflight_request request, const onceflight_queue *queue, uint64_t tag)
{
    onceflight_lead lead = 77;
    onceflight_response *response = GARBAGE;
    EXPECT(ONCEFLIGHT_PENDING, onceflight_begin_async(table, &request, queue, tag, &lead, &response));
    CHECK(lead == 0 && response == NULL);
}

/* In line behind `ahead` others when this returns. */
static void pend_in_line(const onceflight_table *table, const char *key, const onceflight_queue *queue, uint64_t tag,
                         uint64_t ahead)
{
    pend(table, request_for(key), queue, tag);
    await_waiting(table, ahead + 1);
}

/* The next event, waited for on the descriptor alone: nothing but the library makes it readable. */
static onceflight_event polled_event(const onceflight_queue *queue)
{
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    do {
        REQUIRE(readable(onceflight_queue_fd(queue), HANG_MS));
    } while (onceflight_queue_next(queue, 0, &event) == ONCEFLIGHT_E_TIMEOUT);
    return event;
}

static int is_empty(const onceflight_queue *queue)
{
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    return onceflight_queue_next(queue, 0, &event) == ONCEFLIGHT_E_TIMEOUT && event.tag == 0 && event.outcome == 0 &&
           event.lead == 0 && event.response == NULL && !readable(onceflight_queue_fd(queue), 0);
}

/* A request's outcome, whether it is told at once or by an event. */
static onceflight_event asked(const onceflight_table *table, onceflight_request request, const onceflight_queue *queue)
{
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    event.tag = 99;
    event.outcome = onceflight_begin_async(table, &request, queue, 99, &event.lead, &event.response);
    CHECK(event.outcome == ONCEFLIGHT_PENDING || in_memory());
    if (event.outcome != ONCEFLIGHT_PENDING)
        return event;
    CHECK(event.lead == 0 && event.response == NULL);
    event = polled_event(queue);
    CHECK(event.tag == 99);
    return event;
}

static void every_outcome_arrives(void)
{
    onceflight_table *table = opened();
    onceflight_queue *queue = new_queue();
    onceflight_request request = with_fingerprint(request_for(new_key()), "one");
    onceflight_lead lead;
    onceflight_event event = asked(table, request, queue);
    CHECK(event.outcome == ONCEFLIGHT_LEAD && event.lead != 0 && event.response == NULL);
    lead = event.lead;
    CHECK(details_of(table, lead).attempt == 1);
    request.timeout_ms = 0;
    event = asked(table, request, queue);
    CHECK(event.outcome == ONCEFLIGHT_E_TIMEOUT && event.lead == 0 && event.response == NULL);
    event = asked(table, with_fingerprint(request, "two"), queue);
    CHECK(event.outcome == ONCEFLIGHT_E_MISMATCH && event.lead == 0 && event.response == NULL);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 1, BYTES("done")));
    event = asked(table, request, queue);
    CHECK(event.outcome == ONCEFLIGHT_REPLAYED && event.lead == 0 && response_is(event.response, 1, "done"));
    onceflight_response_free(event.response);
    CHECK(is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void those_in_line_share(void)
{
    onceflight_table *table = opened();
    onceflight_queue *queue = new_queue();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    onceflight_event first, second;
    caller blocking;
    pend_in_line(table, key, queue, 11, 0);
    pend_in_line(table, key, queue, UINT64_MAX, 1);
    caller_join_line(&blocking, table, key, 2);
    CHECK(is_empty(queue));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 200, BYTES("body")));
    first = polled_event(queue);
    second = polled_event(queue);
    CHECK(first.outcome == ONCEFLIGHT_SHARED && first.lead == 0 && response_is(first.response, 200, "body"));
    CHECK(second.outcome == ONCEFLIGHT_SHARED && response_is(second.response, 200, "body"));
    CHECK((first.tag == 11 && second.tag == UINT64_MAX) || (first.tag == UINT64_MAX && second.tag == 11));
    CHECK(is_empty(queue));
    CHECK(caller_got(&blocking, ONCEFLIGHT_SHARED, 200, "body"));
    onceflight_response_free(first.response);
    onceflight_response_free(second.response);
    CHECK(stats_of(table).shared == 3 && stats_of(table).waiting == 0);
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void every_other_settlement_arrives_too(void)
{
    onceflight_table *table = opened();
    onceflight_table *failing = opened_with(onceflight_options_set_on_cancel, ONCEFLIGHT_FAIL_ALL, NULL, 0);
    onceflight_queue *queue = new_queue();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    onceflight_event event;

    pend_in_line(table, key, queue, 1, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_decline(table, lead));
    event = polled_event(queue);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_BYPASS && event.lead == 0 && event.response == NULL);

    lead = lead_of(table, key);
    pend_in_line(table, key, queue, 2, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    event = polled_event(queue);
    CHECK(event.tag == 2 && event.outcome == ONCEFLIGHT_LEAD && event.lead != 0 && event.response == NULL);
    CHECK(details_of(table, event.lead).attempt == 2);

    lead = event.lead;
    pend_in_line(table, key, queue, 3, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
    event = polled_event(queue);
    CHECK(event.tag == 3 && event.outcome == ONCEFLIGHT_LEAD && details_of(table, event.lead).attempt == 3);

    lead = event.lead;
    pend_in_line(table, key, queue, 4, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_table_close(table));
    event = polled_event(queue);
    CHECK(event.tag == 4 && event.outcome == ONCEFLIGHT_E_CLOSED && event.lead == 0 && event.response == NULL);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));

    key = new_key();
    lead = lead_of(failing, key);
    pend_in_line(failing, key, queue, 5, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(failing, lead));
    event = polled_event(queue);
    CHECK(event.tag == 5 && event.outcome == ONCEFLIGHT_E_CANCELLED);
    CHECK(is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
    onceflight_table_free(failing);
}

static void deadlines_and_leases_make_the_descriptor_readable(void)
{
    onceflight_table *table = opened();
    onceflight_queue *queue = new_queue();
    const char *key = new_key();
    onceflight_request request = request_for(key);
    onceflight_lead late;
    onceflight_event event;
    double start = now_ms();
    request.lease_ms = 300;
    late = lead_by(table, request);
    request.timeout_ms = 50;
    pend(table, request, queue, 1);
    event = polled_event(queue);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_E_TIMEOUT && event.lead == 0 && event.response == NULL);
    CHECK(now_ms() - start >= 49 && stats_of(table).timeouts == 1);
    await_waiting(table, 0);
    pend(table, request_for(key), queue, 2);
    event = polled_event(queue);
    CHECK(event.tag == 2 && event.outcome == ONCEFLIGHT_LEAD && details_of(table, event.lead).attempt == 2);
    CHECK(now_ms() - start >= 299 && stats_of(table).takeovers == 1);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, event.lead));
    CHECK(is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

/* Whoever finds that the time is up, of those who serve the queue. */
static void a_timeout_is_counted_once(void)
{
    enum { ROUNDS = 100 };
    onceflight_table *table = opened();
    onceflight_queue *queue = new_queue();
    onceflight_request request = request_for(new_key());
    onceflight_lead lead = lead_by(table, request);
    int i;
    request.timeout_ms = 5;
    for (i = 0; i < ROUNDS; i++) {
        pend(table, request, queue, 1);
        CHECK(polled_event(queue).outcome == ONCEFLIGHT_E_TIMEOUT);
        await_waiting(table, 0);
    }
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    CHECK(stats_of(table).timeouts == ROUNDS);
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void under_hold_a_passed_lease_arrives_as_unknown(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_lease_ms, 100, onceflight_options_set_on_lease_expired,
                                          ONCEFLIGHT_HOLD);
    onceflight_queue *queue = new_queue();
    onceflight_request request = request_for(new_key());
    onceflight_event event;
    onceflight_lead late = lead_by(table, request);
    pend(table, request, queue, 1);
    event = polled_event(queue);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_E_UNKNOWN && event.lead == 0);
    request.flags = ONCEFLIGHT_RECOVER;
    event = asked(table, request, queue);
    CHECK(event.outcome == ONCEFLIGHT_LEAD);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, event.lead));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

/* An offer nobody reads passes to the next in line, and who missed it is behind them. */
static void an_unread_lead_lapses(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_offer_ms, 20, NULL, 0);
    onceflight_queue *queue = new_queue();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    caller next;
    pend_in_line(table, key, queue, 1, 0);
    caller_join_line(&next, table, key, 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&next));
    CHECK(details_of(table, next.lead).attempt >= 2);
    await_waiting(table, 1);
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_queue_next(queue, 0, &event));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, next.lead, 8, BYTES("by the next")));
    event = polled_event(queue);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_SHARED && response_is(event.response, 8, "by the next"));
    onceflight_response_free(event.response);
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void who_leaves_hears_nothing(void)
{
    onceflight_table *table = opened();
    onceflight_queue *queue = new_queue();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    onceflight_event event;
    pend_in_line(table, key, queue, 1, 0);
    pend_in_line(table, key, queue, 2, 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_leave(queue, 1));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_queue_leave(queue, 1));
    await_waiting(table, 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    event = polled_event(queue);
    CHECK(event.tag == 2 && event.outcome == ONCEFLIGHT_LEAD);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, event.lead, 0, NULL, 0));
    CHECK(is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

/* A lead that is in nobody's hands but the queue's goes on with the queue's end. */
static void a_freed_queue_passes_its_leads_on(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_offer_ms, HOUR_MS, NULL, 0);
    onceflight_queue *queue = new_queue();
    const char *key = new_key(), *other = new_key();
    onceflight_lead lead = lead_of(table, key), waited_for = lead_of(table, other);
    caller next;
    pend_in_line(table, key, queue, 1, 0);
    caller_join_line(&next, table, key, 1);
    pend_in_line(table, other, queue, 2, 2);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    REQUIRE(readable(onceflight_queue_fd(queue), HANG_MS));
    onceflight_queue_free(queue);
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&next));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, next.lead, 0, NULL, 0));
    await_waiting(table, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, waited_for, 0, NULL, 0));
    onceflight_table_free(table);
}

static void *read_one(void *argument)
{
    static onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    if (onceflight_queue_next((const onceflight_queue *)argument, FOREVER, &event) != ONCEFLIGHT_OK)
        event.outcome = ONCEFLIGHT_E_PANIC;
    return &event;
}

static void a_freed_table_ends_what_is_pending(void)
{
    onceflight_table *table = opened();
    onceflight_queue *queue = new_queue();
    const char *key = new_key();
    pthread_t reader;
    void *event = NULL;
    lead_of(table, key);
    REQUIRE(pthread_create(&reader, NULL, read_one, queue) == 0);
    pend_in_line(table, key, queue, 1, 0);
    onceflight_table_free(table);
    REQUIRE(pthread_join(reader, &event) == 0);
    CHECK(((onceflight_event *)event)->tag == 1 && ((onceflight_event *)event)->outcome == ONCEFLIGHT_E_CLOSED);
    onceflight_queue_free(queue);
}

/* Many at once, more than there are threads for: each key has one lead, and everybody an outcome. */
static void a_crowd_is_served(void)
{
    enum { KEYS = 10, EACH = 10 };
    onceflight_table *table = opened();
    onceflight_queue *queue = new_queue();
    const char *base = new_key();
    char keys[KEYS][80];
    int leads[KEYS] = {0}, served = 0, i;
    for (i = 0; i < KEYS; i++)
        snprintf(keys[i], sizeof keys[i], "%s-%d", base, i);
    for (i = 0; i < KEYS * EACH; i++) {
        onceflight_event event = ONCEFLIGHT_EVENT_INIT;
        onceflight_request request = request_for(keys[i % KEYS]);
        event.outcome = onceflight_begin_async(table, &request, queue, (uint64_t)i, &event.lead, &event.response);
        if (event.outcome == ONCEFLIGHT_LEAD) {
            leads[i % KEYS]++;
            EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, event.lead, i % KEYS, BYTES("x")));
        }
        onceflight_response_free(event.response);
        served += event.outcome != ONCEFLIGHT_PENDING;
    }
    while (served < KEYS * EACH) {
        onceflight_event event = polled_event(queue);
        int key = (int)(event.tag % KEYS);
        served++;
        if (event.outcome == ONCEFLIGHT_LEAD) {
            leads[key]++;
            EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, event.lead, key, BYTES("x")));
        } else {
            CHECK(event.outcome == ONCEFLIGHT_SHARED || event.outcome == ONCEFLIGHT_REPLAYED);
            CHECK(response_is(event.response, key, "x"));
            onceflight_response_free(event.response);
        }
    }
    for (i = 0; i < KEYS; i++)
        CHECK(leads[i] == 1);
    CHECK(is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

int main(int argc, char **argv)
{
    REQUIRE(has_url(argc, argv));
    RUN(every_outcome_arrives);
    RUN(those_in_line_share);
    RUN(every_other_settlement_arrives_too);
    RUN(deadlines_and_leases_make_the_descriptor_readable);
    RUN(a_timeout_is_counted_once);
    RUN(under_hold_a_passed_lease_arrives_as_unknown);
    RUN(an_unread_lead_lapses);
    RUN(who_leaves_hears_nothing);
    RUN(a_freed_queue_passes_its_leads_on);
    RUN(a_freed_table_ends_what_is_pending);
    RUN(a_crowd_is_served);
    return check_done("durable_queue");
}
