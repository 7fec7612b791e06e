/* After fork a table or queue the child inherited says FORKED instead of hanging; the child opens its own. */
#define _POSIX_C_SOURCE 200809L
#include "child.h"

static void use_a_table_of_its_own(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, 20, NULL, 0);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_request request = request_for("key");
    onceflight_response *response = NULL;
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    onceflight_queue *queue = NULL;
    caller follower;
    caller_join_line(&follower, table, "key", 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&follower));
    /* Timers run in the child too: a deadline on the queue, a lease, a window. */
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_new(&queue));
    request.timeout_ms = 5;
    EXPECT(ONCEFLIGHT_PENDING, onceflight_begin_async(table, &request, queue, 3, &lead, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_next(queue, FOREVER, &event));
    CHECK(event.tag == 3 && event.outcome == ONCEFLIGHT_E_TIMEOUT);
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, follower.lead, 1));
    lead = lead_of(table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, BYTES("child's")));
    while (stats_of(table).completed != 0)
        sched_yield();
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void child_of_a_quiet_parent(void *argument)
{
    const inherited *from_parent = (const inherited *)argument;
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    expect_forked(from_parent);
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_queue_next(from_parent->queue, FOREVER, &event));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_queue_leave(from_parent->queue, 1));
    /* A response is plain memory. */
    CHECK(response_is(from_parent->response, 1, "inherited"));
    use_a_table_of_its_own();
    expect_forked(from_parent);
    onceflight_response_free(from_parent->response);
    onceflight_queue_free(from_parent->queue);
    onceflight_table_free(from_parent->table);
}

static void a_child_is_told_and_the_parent_is_unharmed(void)
{
    inherited mine = {NULL, NULL, NULL, 0};
    onceflight_request request = request_for("key");
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    onceflight_lead none = 0;
    onceflight_response *response = NULL;
    caller follower;
    mine.table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(mine.table, lead_of(mine.table, "done"), 1, BYTES("inherited")));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin(mine.table, BYTES("done"), 0, &none, &mine.response));
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_new(&mine.queue));
    mine.lead = lead_of(mine.table, "key");
    EXPECT(ONCEFLIGHT_PENDING, onceflight_begin_async(mine.table, &request, mine.queue, 9, &none, &response));
    caller_join_line(&follower, mine.table, "key", 1);

    CHECK(broken_in_child(child_of_a_quiet_parent, &mine) == 0);

    CHECK(stats_of(mine.table).in_flight == 1 && stats_of(mine.table).waiting == 2);
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_queue_next(mine.queue, 0, &event));
    CHECK(!readable(onceflight_queue_fd(mine.queue), 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(mine.table, mine.lead, 2, BYTES("parent's")));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 2, "parent's"));
    CHECK(readable(onceflight_queue_fd(mine.queue), HANG_SECONDS * 1000));
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_next(mine.queue, 0, &event));
    CHECK(event.tag == 9 && event.outcome == ONCEFLIGHT_SHARED && response_is(event.response, 2, "parent's"));
    onceflight_response_free(event.response);
    onceflight_response_free(mine.response);
    onceflight_queue_free(mine.queue);
    onceflight_table_free(mine.table);
}

static int traffic_over;

static void *traffic(void *argument)
{
    const onceflight_table *table = (const onceflight_table *)argument;
    uint64_t turn = 0;
    while (!__atomic_load_n(&traffic_over, __ATOMIC_ACQUIRE)) {
        onceflight_lead lead = 0;
        onceflight_response *response = NULL;
        uint8_t key = (uint8_t)(turn++ % 64);
        if (onceflight_begin(table, &key, 1, FOREVER, &lead, &response) == ONCEFLIGHT_LEAD)
            onceflight_complete_for(table, lead, 0, BYTES("x"), turn % 3);
        onceflight_response_free(response);
    }
    return NULL;
}

static void child_of_a_busy_parent(void *argument)
{
    onceflight_table *table = (onceflight_table *)argument;
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_begin(table, BYTES("key"), FOREVER, &lead, &response));
    use_a_table_of_its_own();
    onceflight_table_free(table);
}

/* A fork may fall between any two instructions of another thread, one that holds a lock of the library included. */
static void a_fork_in_the_middle_of_traffic_hangs_nobody(void)
{
    onceflight_table *table = new_table(NULL);
    pthread_t threads[3];
    int i;
    for (i = 0; i < 3; i++)
        REQUIRE(pthread_create(&threads[i], NULL, traffic, table) == 0);
    while (stats_of(table).leads < 100)
        sched_yield();
    for (i = 0; i < 20 && CHECK(broken_in_child(child_of_a_busy_parent, table) == 0); i++) {
    }
    __atomic_store_n(&traffic_over, 1, __ATOMIC_RELEASE);
    for (i = 0; i < 3; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "after"));
    onceflight_table_free(table);
}

/* Whatever it asks of sessions of its parent's. */
static void child_with_sessions(void *argument)
{
    onceflight_sessions *sessions = (onceflight_sessions *)argument, *own = NULL;
    onceflight_session_stats stats = ONCEFLIGHT_SESSION_STATS_INIT;
    onceflight_response *response = GARBAGE;
    uint64_t number = 77;
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_sessions_register(sessions, BYTES("a"), BYTES("n"), 0, &number));
    CHECK(number == 0);
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_sessions_begin(sessions, BYTES("a"), 0, 1, 0, NULL, 0, &response));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_sessions_record(sessions, BYTES("a"), 0, 1, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_sessions_peek(sessions, BYTES("a"), 0, 1, &response));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_sessions_keep_alive(sessions, BYTES("a"), 0, 0));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_sessions_unregister(sessions, BYTES("a")));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_sessions_expire(sessions, 0, &number));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_sessions_stats(sessions, &stats));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_sessions_snapshot(sessions, &response));
    CHECK(response == NULL);
    onceflight_sessions_free(sessions);
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_new(9, 1, FOREVER, &own));
    EXPECT(ONCEFLIGHT_LEAD, onceflight_sessions_begin(own, BYTES("a"), 0, 1, 0, NULL, 0, &response));
    onceflight_sessions_free(own);
}

static void *apply_for_ever(void *argument)
{
    onceflight_sessions *sessions = (onceflight_sessions *)argument;
    uint64_t seq;
    for (seq = 2; !__atomic_load_n(&traffic_over, __ATOMIC_ACQUIRE); seq++) {
        onceflight_response *response = NULL;
        if (onceflight_sessions_begin(sessions, BYTES("a"), 0, seq, seq, NULL, 0, &response) == ONCEFLIGHT_LEAD)
            onceflight_sessions_record(sessions, BYTES("a"), 0, seq, 0, BYTES("x"));
        onceflight_response_free(response);
    }
    return NULL;
}

/* The fork may fall into a change, so the child has half a table: it must neither use nor drop it. */
static void sessions_stay_with_the_parent(void)
{
    onceflight_sessions *sessions = NULL;
    onceflight_response *response = NULL;
    pthread_t thread;
    int i;
    REQUIRE(onceflight_sessions_new(9, 1, FOREVER, &sessions) == ONCEFLIGHT_OK);
    EXPECT(ONCEFLIGHT_LEAD, onceflight_sessions_begin(sessions, BYTES("a"), 0, 1, 0, NULL, 0, &response));
    CHECK(broken_in_child(child_with_sessions, sessions) == 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_record(sessions, BYTES("a"), 0, 1, 0, NULL, 0));
#ifndef __SANITIZE_ADDRESS__ /* as in main */
    __atomic_store_n(&traffic_over, 0, __ATOMIC_RELEASE);
    REQUIRE(pthread_create(&thread, NULL, apply_for_ever, sessions) == 0);
    for (i = 0; i < 20 && CHECK(broken_in_child(child_with_sessions, sessions) == 0); i++) {
    }
    __atomic_store_n(&traffic_over, 1, __ATOMIC_RELEASE);
    REQUIRE(pthread_join(thread, NULL) == 0);
#else
    (void)apply_for_ever, (void)thread, (void)i;
#endif
    onceflight_sessions_free(sessions);
}

static void grandchild(void *argument)
{
    inherited *from_parent = (inherited *)argument;
    expect_forked(from_parent);
    use_a_table_of_its_own();
}

static void child_that_forks(void *argument)
{
    inherited own = {NULL, NULL, NULL, 0};
    (void)argument;
    own.table = new_table(NULL);
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_new(&own.queue));
    own.lead = lead_of(own.table, "key");
    CHECK(broken_in_child(grandchild, &own) == 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(own.table, own.lead, 0, NULL, 0));
    onceflight_queue_free(own.queue);
    onceflight_table_free(own.table);
}

static void a_child_may_fork_in_turn(void)
{
    CHECK(broken_in_child(child_that_forks, NULL) == 0);
}

int main(void)
{
    RUN(a_child_is_told_and_the_parent_is_unharmed);
#ifndef __SANITIZE_ADDRESS__ /* whose allocator, unlike the C library's, doesn't guard its own locks over a fork */
    RUN(a_fork_in_the_middle_of_traffic_hangs_nobody);
#else
    (void)a_fork_in_the_middle_of_traffic_hangs_nobody;
#endif
    RUN(sessions_stay_with_the_parent);
    RUN(a_child_may_fork_in_turn);
    return check_done("forked");
}
