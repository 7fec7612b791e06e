/* The queue: begin_async's outcomes, its file descriptor under poll and epoll, deadlines, leases, offers, leaving. */
#define _POSIX_C_SOURCE 200809L
#include <sys/epoll.h>

#include "support.h"

#define HANG_MS (HANG_SECONDS * 1000)

static onceflight_queue *new_queue(void)
{
    onceflight_queue *queue = NULL;
    REQUIRE(onceflight_queue_new(&queue) == ONCEFLIGHT_OK && queue != NULL);
    return queue;
}

static void pend_request(const onceflight_table *table, onceflight_request request, const onceflight_queue *queue,
                         uint64_t tag)
{
    onceflight_lead lead = 77;
    onceflight_response *response = GARBAGE;
    EXPECT(ONCEFLIGHT_PENDING, onceflight_begin_async(table, &request, queue, tag, &lead, &response));
    CHECK(lead == 0 && response == NULL);
}

static void pend(const onceflight_table *table, const char *key, const onceflight_queue *queue, uint64_t tag)
{
    pend_request(table, request_for(key), queue, tag);
}

/* The next event, waited for on the file descriptor alone: nothing but the library makes it readable. */
static onceflight_event polled_event(const onceflight_queue *queue)
{
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    REQUIRE(readable(onceflight_queue_fd(queue), HANG_MS));
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_next(queue, 0, &event));
    return event;
}

static int is_empty(const onceflight_queue *queue)
{
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    return onceflight_queue_next(queue, 0, &event) == ONCEFLIGHT_E_TIMEOUT && event.tag == 0 && event.outcome == 0 &&
           event.lead == 0 && event.response == NULL && !readable(onceflight_queue_fd(queue), 0);
}

static void what_needs_no_waiting_is_answered_at_once(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_queue *queue = new_queue();
    onceflight_request request = request_for("key");
    onceflight_lead lead = 0, none = 77;
    onceflight_response *response = GARBAGE;
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_async(table, &request, queue, 1, &lead, &response));
    CHECK(lead != 0 && response == NULL);
    request.timeout_ms = 0;
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin_async(table, &request, queue, 2, &none, &response));
    CHECK(none == 0 && stats_of(table).timeouts == 1);
    request.fingerprint = (const uint8_t *)"x";
    request.fingerprint_len = 1;
    EXPECT(ONCEFLIGHT_E_MISMATCH, onceflight_begin_async(table, &request, queue, 3, &none, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 1, BYTES("done")));
    request = request_for("key");
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin_async(table, &request, queue, 4, &none, &response));
    CHECK(none == 0 && response_is(response, 1, "done"));
    onceflight_response_free(response);
    CHECK(is_empty(queue));
    EXPECT(ONCEFLIGHT_OK, onceflight_table_close(table));
    EXPECT(ONCEFLIGHT_E_CLOSED, onceflight_begin_async(table, &request, queue, 5, &none, &response));
    CHECK(is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void a_completion_arrives_as_an_event(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_queue *queue = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_event first, second;
    caller blocking;
    pend(table, "key", queue, 11);
    pend(table, "key", queue, UINT64_MAX);
    CHECK(stats_of(table).waiting == 2 && is_empty(queue));
    caller_join_line(&blocking, table, "key", 2);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 200, BYTES("body")));
    first = polled_event(queue);
    CHECK(first.outcome == ONCEFLIGHT_SHARED && first.lead == 0 && response_is(first.response, 200, "body"));
    /* One event is read: the other still makes the descriptor readable. */
    second = polled_event(queue);
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
    onceflight_table *table = new_table(NULL);
    onceflight_table *failing = table_with(onceflight_options_set_on_cancel, ONCEFLIGHT_FAIL_ALL, NULL, 0);
    onceflight_queue *queue = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_event event;

    pend(table, "key", queue, 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_decline(table, lead));
    event = polled_event(queue);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_BYPASS && event.lead == 0 && event.response == NULL);

    lead = lead_of(table, "key");
    pend(table, "key", queue, 2);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    event = polled_event(queue);
    CHECK(event.tag == 2 && event.outcome == ONCEFLIGHT_LEAD && event.lead != 0 && event.response == NULL);
    CHECK(details_of(table, event.lead).attempt == 2);

    pend(table, "key", queue, 3);
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, event.lead));
    event = polled_event(queue);
    CHECK(event.tag == 3 && event.outcome == ONCEFLIGHT_LEAD && details_of(table, event.lead).attempt == 3);

    pend(table, "key", queue, 4);
    EXPECT(ONCEFLIGHT_OK, onceflight_table_close(table));
    CHECK(event.lead != 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, event.lead, 0, NULL, 0));
    event = polled_event(queue);
    CHECK(event.tag == 4 && event.outcome == ONCEFLIGHT_E_CLOSED && event.lead == 0 && event.response == NULL);

    lead = lead_of(failing, "key");
    pend(failing, "key", queue, 5);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(failing, lead));
    event = polled_event(queue);
    CHECK(event.tag == 5 && event.outcome == ONCEFLIGHT_E_CANCELLED);
    CHECK(is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
    onceflight_table_free(failing);
}

static void a_deadline_makes_the_descriptor_readable(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_queue *queue = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_request request = request_for("key");
    onceflight_event event;
    double start = now_ms();
    request.timeout_ms = 30;
    pend_request(table, request, queue, 1);
    event = polled_event(queue);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_E_TIMEOUT && event.lead == 0 && event.response == NULL);
    CHECK(now_ms() - start >= 29);
    CHECK(stats_of(table).waiting == 0 && stats_of(table).timeouts == 1 && is_empty(queue));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    CHECK(is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void a_passed_lease_makes_the_descriptor_readable(void)
{
    onceflight_table *table = table_with(onceflight_options_set_lease_ms, 30, NULL, 0);
    onceflight_queue *queue = new_queue();
    onceflight_lead late = lead_of(table, "key");
    onceflight_event event;
    pend(table, "key", queue, 1);
    event = polled_event(queue);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_LEAD && event.lead != 0);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 0, NULL, 0));
    CHECK(stats_of(table).takeovers == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, event.lead));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void under_hold_a_passed_lease_arrives_as_unknown(void)
{
    onceflight_table *table = table_with(onceflight_options_set_lease_ms, 30, onceflight_options_set_on_lease_expired,
                                         ONCEFLIGHT_HOLD);
    onceflight_queue *queue = new_queue();
    onceflight_event event;
    lead_of(table, "key");
    pend(table, "key", queue, 1);
    event = polled_event(queue);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_E_UNKNOWN && event.lead == 0);
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void the_descriptor_works_with_epoll(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_queue *queue = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    struct epoll_event interest, ready;
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    int epoll = epoll_create1(0), round;
    memset(&interest, 0, sizeof interest);
    interest.events = EPOLLIN;
    interest.data.u64 = 42;
    REQUIRE(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, onceflight_queue_fd(queue), &interest) == 0);
    for (round = 0; round < 3; round++) {
        pend(table, "key", queue, (uint64_t)round);
        CHECK(epoll_wait(epoll, &ready, 1, 0) == 0);
        EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
        REQUIRE(epoll_wait(epoll, &ready, 1, HANG_MS) == 1);
        CHECK(ready.data.u64 == 42 && (ready.events & EPOLLIN) != 0);
        EXPECT(ONCEFLIGHT_OK, onceflight_queue_next(queue, 0, &event));
        CHECK(event.tag == (uint64_t)round && event.outcome == ONCEFLIGHT_LEAD);
        lead = event.lead;
    }
    CHECK(epoll_wait(epoll, &ready, 1, 0) == 0);
    close(epoll);
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void next_waits_as_long_as_it_is_told(void)
{
    onceflight_queue *queue = new_queue();
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    double start = now_ms();
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_queue_next(queue, 20, &event));
    CHECK(now_ms() - start >= 19);
    onceflight_queue_free(queue);
}

static onceflight_table *offering_table(void)
{
    return table_with(onceflight_options_set_offer_ms, 30, NULL, 0);
}

static void an_offer_nobody_reads_passes_on(void)
{
    onceflight_table *table = offering_table();
    onceflight_queue *idle = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_event event;
    caller next;
    pend(table, "key", idle, 1);
    caller_join_line(&next, table, "key", 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&next));
    CHECK(is_empty(idle));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, next.lead, 3, BYTES("next")));
    /* It lost its turn, not its wait. */
    event = polled_event(idle);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_SHARED && response_is(event.response, 3, "next"));
    onceflight_response_free(event.response);
    CHECK(is_empty(idle));
    onceflight_queue_free(idle);
    onceflight_table_free(table);
}

static void an_offer_nobody_reads_passes_to_who_comes(void)
{
    onceflight_table *table = offering_table();
    onceflight_queue *idle = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_event event;
    pend(table, "key", idle, 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    lead = lead_of(table, "key");
    CHECK(is_empty(idle));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 4, BYTES("comer")));
    event = polled_event(idle);
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_SHARED && response_is(event.response, 4, "comer"));
    onceflight_response_free(event.response);
    onceflight_queue_free(idle);
    onceflight_table_free(table);
}

static void an_offer_that_was_read_does_not_lapse(void)
{
    onceflight_table *table = NULL;
    onceflight_queue *queue = NULL;
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    onceflight_lead none = 0;
    onceflight_response *response = NULL;
    /* A slow machine may not read it in time: again, then. */
    while (event.outcome != ONCEFLIGHT_LEAD) {
        onceflight_queue_free(queue);
        onceflight_table_free(table);
        table = offering_table();
        queue = new_queue();
        none = lead_of(table, "key");
        pend(table, "key", queue, 1);
        EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, none));
        onceflight_queue_next(queue, 1000, &event);
    }
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin(table, BYTES("key"), 100, &none, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, event.lead, 0, NULL, 0));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void pend_for(const onceflight_table *table, const onceflight_queue *queue, uint64_t timeout_ms, uint32_t flags)
{
    onceflight_request request = request_for("key");
    request.timeout_ms = timeout_ms;
    request.flags = flags;
    pend_request(table, request, queue, 7);
}

static int timed_out_once(const onceflight_table *table, const onceflight_queue *queue)
{
    onceflight_event event = polled_event(queue);
    onceflight_stats stats = stats_of(table);
    return event.tag == 7 && event.outcome == ONCEFLIGHT_E_TIMEOUT && event.lead == 0 && event.response == NULL &&
           stats.timeouts == 1 && stats.shared == 0 && is_empty(queue);
}

/* The wait's time is up while it holds an offer. The offer passes on, and the wait isn't forgotten. */
static void a_deadline_that_passes_during_an_unread_offer_is_told(void)
{
    onceflight_table *table = table_with(onceflight_options_set_offer_ms, 200, NULL, 0);
    onceflight_queue *idle = new_queue(), *next = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_event event;
    pend_for(table, idle, 100, 0);
    pend(table, "key", next, 8);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    event = polled_event(next);
    CHECK(event.tag == 8 && event.outcome == ONCEFLIGHT_LEAD);
    CHECK(timed_out_once(table, idle));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, event.lead));
    onceflight_queue_free(idle);
    onceflight_queue_free(next);
    onceflight_table_free(table);
}

/* The same, with nobody else in line: the offer has lapsed, and whoever begins next takes it. */
static void a_deadline_that_passes_after_a_lapsed_offer_is_told(void)
{
    onceflight_table *table = offering_table();
    onceflight_queue *idle = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    double start = now_ms();
    pend_for(table, idle, 60, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    while (now_ms() - start < 70)
        poll(NULL, 0, 1);
    lead = lead_of(table, "key");
    CHECK(timed_out_once(table, idle));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    CHECK(is_empty(idle));
    onceflight_queue_free(idle);
    onceflight_table_free(table);
}

/* Its event was due before the outcome came: reading it late doesn't change it. */
static void a_timeout_that_is_read_late_is_still_one(void)
{
    int forgotten;
    for (forgotten = 0; forgotten < 2; forgotten++) {
        onceflight_table *table = new_table(NULL);
        onceflight_queue *late = new_queue(), *other = new_queue();
        onceflight_lead lead = lead_of(table, "key");
        onceflight_event event;
        pend_for(table, late, 1, 0);
        pend(table, "key", other, 8);
        CHECK(readable(onceflight_queue_fd(late), HANG_MS));
        /* A forgotten flight that fails has its followers begin again: not one that is no follower any more. */
        if (forgotten)
            EXPECT(ONCEFLIGHT_OK, onceflight_forget(table, BYTES("key")));
        EXPECT(ONCEFLIGHT_OK, forgotten ? onceflight_cancel(table, lead) : onceflight_complete(table, lead, 0, NULL, 0));
        CHECK(timed_out_once(table, late));
        event = polled_event(other);
        EXPECT(forgotten ? ONCEFLIGHT_LEAD : ONCEFLIGHT_SHARED, event.outcome);
        onceflight_response_free(event.response);
        onceflight_queue_free(late);
        onceflight_queue_free(other);
        onceflight_table_free(table);
    }
}

/* HOLD: the one that may recover runs out of time with the offer in its hand. Those behind it learn that the
 * outcome is unknown, and who comes to recover leads. */
static void under_hold_nobody_waits_for_a_recovery_that_timed_out(void)
{
    onceflight_table *table = table_with(onceflight_options_set_on_lease_expired, ONCEFLIGHT_HOLD,
                                         onceflight_options_set_offer_ms, 100);
    onceflight_queue *recovering = new_queue(), *plain = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_request recover = request_for("key");
    onceflight_event event;
    pend_for(table, recovering, 50, ONCEFLIGHT_RECOVER);
    pend(table, "key", plain, 8);
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
    event = polled_event(plain);
    CHECK(event.tag == 8 && event.outcome == ONCEFLIGHT_E_UNKNOWN && event.lead == 0);
    CHECK(timed_out_once(table, recovering));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, probe(table, "key"));
    recover.flags = ONCEFLIGHT_RECOVER;
    EXPECT(ONCEFLIGHT_LEAD, probe_request(table, recover));
    onceflight_queue_free(recovering);
    onceflight_queue_free(plain);
    onceflight_table_free(table);
}

static void a_freed_queue_passes_its_unread_lead_on(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_queue *gone = new_queue(), *next = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_event event;
    caller blocking;
    pend(table, "key", gone, 1);
    pend(table, "key", next, 2);
    caller_join_line(&blocking, table, "key", 2);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    CHECK(readable(onceflight_queue_fd(gone), HANG_MS));
    onceflight_queue_free(gone);
    event = polled_event(next);
    CHECK(event.tag == 2 && event.outcome == ONCEFLIGHT_LEAD);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, event.lead));
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&blocking));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, blocking.lead));
    onceflight_queue_free(next);
    onceflight_table_free(table);
}

static void a_freed_queue_without_successor_leaves_no_lead_behind(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_queue *queue = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    pend(table, "key", queue, 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    CHECK(readable(onceflight_queue_fd(queue), HANG_MS));
    onceflight_queue_free(queue);
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "key"));
    onceflight_table_free(table);
}

static void who_leaves_hears_nothing(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_queue *queue = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_event event;
    pend(table, "key", queue, 1);
    pend(table, "key", queue, 2);
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_leave(queue, 1));
    CHECK(stats_of(table).waiting == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 5, BYTES("x")));
    event = polled_event(queue);
    CHECK(event.tag == 2 && event.outcome == ONCEFLIGHT_SHARED);
    onceflight_response_free(event.response);
    CHECK(is_empty(queue));

    /* Leaving is also for what has arrived and wasn't read; a lead among it passes on. */
    lead = lead_of(table, "key");
    pend(table, "key", queue, 3);
    pend(table, "key", queue, 4);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    CHECK(readable(onceflight_queue_fd(queue), HANG_MS));
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_leave(queue, 3));
    event = polled_event(queue);
    CHECK(event.tag == 4 && event.outcome == ONCEFLIGHT_LEAD);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, event.lead));
    CHECK(is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

typedef struct {
    pthread_t thread;
    const onceflight_queue *queue;
    onceflight_event event;
    int32_t code;
} reader;

static void *read_one(void *argument)
{
    reader *self = (reader *)argument;
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    self->code = onceflight_queue_next(self->queue, FOREVER, &event);
    self->event = event;
    return NULL;
}

/* Many threads may read one queue: each event goes to exactly one of them. */
static void an_event_goes_to_one_reader(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_queue *queue = new_queue();
    onceflight_lead lead = lead_of(table, "key");
    reader readers[4];
    uint64_t seen = 0;
    int i;
    for (i = 0; i < 4; i++)
        pend(table, "key", queue, (uint64_t)i);
    for (i = 0; i < 4; i++) {
        readers[i].queue = queue;
        REQUIRE(pthread_create(&readers[i].thread, NULL, read_one, &readers[i]) == 0);
    }
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    for (i = 0; i < 4; i++) {
        REQUIRE(pthread_join(readers[i].thread, NULL) == 0);
        EXPECT(ONCEFLIGHT_OK, readers[i].code);
        CHECK(readers[i].event.outcome == ONCEFLIGHT_SHARED);
        seen |= UINT64_C(1) << readers[i].event.tag;
        onceflight_response_free(readers[i].event.response);
    }
    CHECK(seen == 0xf && is_empty(queue));
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

/* A queue is read while another thread settles, times out and leaves: every tag is told exactly once. */
enum { TAGS = 2000 };

static const onceflight_table *busy;
static onceflight_queue *busy_queue;

static void *begin_and_settle(void *argument)
{
    uint64_t tag;
    (void)argument;
    for (tag = 0; tag < TAGS; tag++) {
        onceflight_lead lead = 0, own = 0;
        onceflight_response *response = NULL;
        onceflight_request request = request_for("key");
        if (onceflight_begin(busy, BYTES("key"), FOREVER, &lead, &response) != ONCEFLIGHT_LEAD)
            abort();
        request.timeout_ms = tag % 3 == 0 ? 1 : HOUR_MS;
        if (onceflight_begin_async(busy, &request, busy_queue, tag, &own, &response) != ONCEFLIGHT_PENDING)
            abort();
        onceflight_complete(busy, lead, (int32_t)tag, BYTES("x"));
    }
    return NULL;
}

static void every_wait_ends_in_exactly_one_event(void)
{
    static uint8_t told[TAGS];
    onceflight_table *table = new_table(NULL);
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    pthread_t thread;
    int i, once = 1;
    busy = table;
    busy_queue = new_queue();
    REQUIRE(pthread_create(&thread, NULL, begin_and_settle, NULL) == 0);
    for (i = 0; i < TAGS; i++) {
        REQUIRE(onceflight_queue_next(busy_queue, FOREVER, &event) == ONCEFLIGHT_OK);
        REQUIRE(event.tag < TAGS);
        once = once && told[event.tag]++ == 0;
        if (event.outcome == ONCEFLIGHT_SHARED)
            once = once && onceflight_response_status(event.response) == (int32_t)event.tag;
        else
            once = once && event.outcome == ONCEFLIGHT_E_TIMEOUT && event.tag % 3 == 0;
        onceflight_response_free(event.response);
    }
    REQUIRE(pthread_join(thread, NULL) == 0);
    CHECK(once && is_empty(busy_queue) && stats_of(table).waiting == 0);
    onceflight_queue_free(busy_queue);
    onceflight_table_free(table);
}

int main(void)
{
    RUN(what_needs_no_waiting_is_answered_at_once);
    RUN(a_completion_arrives_as_an_event);
    RUN(every_other_settlement_arrives_too);
    RUN(a_deadline_makes_the_descriptor_readable);
    RUN(a_passed_lease_makes_the_descriptor_readable);
    RUN(under_hold_a_passed_lease_arrives_as_unknown);
    RUN(the_descriptor_works_with_epoll);
    RUN(next_waits_as_long_as_it_is_told);
    RUN(an_offer_nobody_reads_passes_on);
    RUN(an_offer_nobody_reads_passes_to_who_comes);
    RUN(an_offer_that_was_read_does_not_lapse);
    RUN(a_deadline_that_passes_during_an_unread_offer_is_told);
    RUN(a_deadline_that_passes_after_a_lapsed_offer_is_told);
    RUN(a_timeout_that_is_read_late_is_still_one);
    RUN(under_hold_nobody_waits_for_a_recovery_that_timed_out);
    RUN(a_freed_queue_passes_its_unread_lead_on);
    RUN(a_freed_queue_without_successor_leaves_no_lead_behind);
    RUN(who_leaves_hears_nothing);
    RUN(an_event_goes_to_one_reader);
    RUN(every_wait_ends_in_exactly_one_event);
    return check_done("queue");
}
