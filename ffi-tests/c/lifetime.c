/* close and free, with others blocked inside; handles freed in any order. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

#define LINE 4

static void close_wakes_every_follower_and_leads_still_settle(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_lead lead = lead_of(table, "key"), none = 77;
    onceflight_response *response = GARBAGE;
    caller line[LINE];
    int i;
    for (i = 0; i < LINE; i++)
        caller_join_line(&line[i], table, "key", (uint64_t)i);
    EXPECT(ONCEFLIGHT_OK, onceflight_table_close(table));
    for (i = 0; i < LINE; i++) {
        EXPECT(ONCEFLIGHT_E_CLOSED, caller_outcome(&line[i]));
        CHECK(line[i].lead == 0 && line[i].response == NULL);
    }
    EXPECT(ONCEFLIGHT_E_CLOSED, onceflight_begin(table, BYTES("other"), FOREVER, &none, &response));
    CHECK(none == 0 && response == NULL);
    EXPECT(ONCEFLIGHT_E_CLOSED, onceflight_begin(table, BYTES("key"), 0, &none, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_table_close(table));
    CHECK(stats_of(table).in_flight == 0 && stats_of(table).waiting == 0);
    onceflight_table_free(table);
}

static void free_lets_those_blocked_inside_go(void)
{
    onceflight_table *table = new_table(NULL);
    caller line[LINE];
    int i;
    lead_of(table, "key");
    for (i = 0; i < LINE; i++)
        caller_join_line(&line[i], table, "key", (uint64_t)i);
    onceflight_table_free(table);
    for (i = 0; i < LINE; i++)
        EXPECT(ONCEFLIGHT_E_CLOSED, caller_outcome(&line[i]));
}

static void a_response_outlives_its_table(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    caller follower;
    caller_join_line(&follower, table, "key", 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 8, BYTES("outlives")));
    onceflight_table_free(table);
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 8, "outlives"));
}

static void a_checkpoint_outlives_its_table(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_lead_info info;
    EXPECT(ONCEFLIGHT_OK, onceflight_checkpoint(table, lead, BYTES("outlives")));
    info = details_of(table, lead);
    onceflight_table_free(table);
    CHECK(response_is(info.checkpoint, 0, "outlives"));
    onceflight_response_free(info.checkpoint);
}

static void options_are_no_longer_needed_once_the_table_is_made(void)
{
    onceflight_options *options = onceflight_options_new();
    onceflight_table *one = NULL, *two = NULL;
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_max_in_flight(options, 1));
    EXPECT(ONCEFLIGHT_OK, onceflight_table_new(options, &one));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_max_in_flight(options, 2));
    EXPECT(ONCEFLIGHT_OK, onceflight_table_open("memory:", options, &two));
    onceflight_options_free(options);
    lead_of(one, "a");
    EXPECT(ONCEFLIGHT_E_OVERLOADED, probe(one, "b"));
    lead_of(two, "a");
    EXPECT(ONCEFLIGHT_LEAD, probe(two, "b"));
    onceflight_table_free(one);
    onceflight_table_free(two);
}

static onceflight_queue *pending_on(const onceflight_table *table, const char *key)
{
    onceflight_queue *queue = NULL;
    onceflight_request request = request_for(key);
    onceflight_lead lead = 77;
    onceflight_response *response = GARBAGE;
    REQUIRE(onceflight_queue_new(&queue) == ONCEFLIGHT_OK);
    REQUIRE(onceflight_begin_async(table, &request, queue, 1, &lead, &response) == ONCEFLIGHT_PENDING);
    REQUIRE(lead == 0 && response == NULL);
    return queue;
}

static void a_queue_may_go_before_its_table(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_queue *queue = pending_on(table, "key");
    onceflight_queue_free(queue);
    CHECK(stats_of(table).waiting == 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    onceflight_table_free(table);
}

static void a_table_may_go_before_its_queue(void)
{
    onceflight_table *table = new_table(NULL), *next = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_queue *queue = pending_on(table, "key");
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    onceflight_request request = request_for("key");
    onceflight_response *response = NULL;
    (void)lead;
    onceflight_table_free(table);
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_next(queue, FOREVER, &event));
    CHECK(event.tag == 1 && event.outcome == ONCEFLIGHT_E_CLOSED && event.lead == 0 && event.response == NULL);
    /* The queue goes on with other tables. */
    lead = lead_of(next, "key");
    EXPECT(ONCEFLIGHT_PENDING, onceflight_begin_async(next, &request, queue, 2, &lead, &response));
    onceflight_table_free(next);
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_next(queue, FOREVER, &event));
    CHECK(event.tag == 2 && event.outcome == ONCEFLIGHT_E_CLOSED);
    onceflight_queue_free(queue);
}

static void an_unread_response_on_a_queue_outlives_its_table(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_queue *read = pending_on(table, "key"), *unread = pending_on(table, "key");
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 6, BYTES("unread")));
    onceflight_table_free(table);
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_next(read, FOREVER, &event));
    CHECK(event.outcome == ONCEFLIGHT_SHARED && response_is(event.response, 6, "unread"));
    onceflight_queue_free(read);
    CHECK(response_is(event.response, 6, "unread"));
    onceflight_response_free(event.response);
    onceflight_queue_free(unread); /* the leak checker holds it to freeing what it kept */
}

/* Threads that begin and settle while others close: each call ends with an answer of its own. */
static void *begin_until_closed(void *argument)
{
    caller *self = (caller *)argument;
    do {
        self->outcome = onceflight_begin(self->table, BYTES("key"), FOREVER, &self->lead, &self->response);
        if (self->outcome == ONCEFLIGHT_LEAD)
            onceflight_complete(self->table, self->lead, 0, BYTES("x"));
        onceflight_response_free(self->response);
    } while (self->outcome == ONCEFLIGHT_LEAD || self->outcome == ONCEFLIGHT_SHARED);
    return NULL;
}

static void close_in_the_middle_of_traffic(void)
{
    onceflight_table *table = new_table(NULL);
    caller traffic[LINE];
    int i;
    for (i = 0; i < LINE; i++) {
        memset(&traffic[i], 0, sizeof traffic[i]);
        traffic[i].table = table;
        REQUIRE(pthread_create(&traffic[i].thread, NULL, begin_until_closed, &traffic[i]) == 0);
    }
    while (stats_of(table).leads < 1000)
        sched_yield();
    EXPECT(ONCEFLIGHT_OK, onceflight_table_close(table));
    for (i = 0; i < LINE; i++)
        EXPECT(ONCEFLIGHT_E_CLOSED, caller_outcome(&traffic[i]));
    CHECK(stats_of(table).in_flight == 0 && stats_of(table).waiting == 0);
    onceflight_table_free(table);
}

int main(void)
{
    RUN(close_wakes_every_follower_and_leads_still_settle);
    RUN(free_lets_those_blocked_inside_go);
    RUN(a_response_outlives_its_table);
    RUN(a_checkpoint_outlives_its_table);
    RUN(options_are_no_longer_needed_once_the_table_is_made);
    RUN(a_queue_may_go_before_its_table);
    RUN(a_table_may_go_before_its_queue);
    RUN(an_unread_response_on_a_queue_outlives_its_table);
    RUN(close_in_the_middle_of_traffic);
    return check_done("lifetime");
}
