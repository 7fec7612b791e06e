/* Misuse is told, never undefined: NULL in every place, leads that are stale, foreign or zero, structs of other
 * sizes. And out-parameters never keep what they held before. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

static void null_is_refused_by_begin(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_request request = request_for("key");
    onceflight_lead lead = 77;
    onceflight_response *response = GARBAGE;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin(NULL, BYTES("key"), 0, &lead, &response));
    CHECK(lead == 0 && response == NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin(table, NULL, 1, 0, &lead, &response));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin(table, BYTES("key"), 0, NULL, &response));
    lead = 77;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin(table, BYTES("key"), 0, &lead, NULL));
    CHECK(lead == 0);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_request(NULL, &request, &lead, &response));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_request(table, NULL, &lead, &response));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_request(table, &request, NULL, &response));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_request(table, &request, &lead, NULL));
    request.key = NULL;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_request(table, &request, &lead, &response));
    request = request_for("key");
    request.fingerprint_len = 1;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_request(table, &request, &lead, &response));
    CHECK(stats_of(table).leads == 0);
    onceflight_table_free(table);
}

static void null_is_refused_by_everything_else(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    onceflight_stats stats = ONCEFLIGHT_STATS_INIT;
    uint8_t out[16];
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_table_new(NULL, NULL));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_table_open("memory:", NULL, NULL));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_table_close(NULL));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_table_stats(NULL, &stats));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_table_stats(table, NULL));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_complete(NULL, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_complete(table, lead, 0, NULL, 1));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_complete_for(NULL, lead, 0, NULL, 0, 0));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_complete_for(table, lead, 0, NULL, 1, 0));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_cancel(NULL, lead));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_abandon(NULL, lead));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_cancel_with(NULL, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_cancel_with(table, lead, 0, NULL, 1));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_abandon_with(NULL, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_abandon_with(table, lead, 0, NULL, 1));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_decline(NULL, lead));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_renew(NULL, lead, 1));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_checkpoint(NULL, lead, NULL, 0));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_checkpoint(table, lead, NULL, 1));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_lead_details(NULL, lead, &info));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_lead_details(table, lead, NULL));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_forget(NULL, BYTES("key")));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_forget(table, NULL, 1));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_fingerprint(NULL, 1, NULL, out));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_fingerprint(NULL, 0, NULL, NULL));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_request_key(NULL, "/", NULL, 0, NULL, 0, NULL, out));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_request_key("GET", NULL, NULL, 0, NULL, 0, NULL, out));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_request_key("GET", "/", NULL, 1, NULL, 0, NULL, out));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_request_key("GET", "/", NULL, 0, NULL, 1, NULL, out));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_request_key("GET", "/", NULL, 0, NULL, 0, NULL, NULL));
    /* The lead is as it was. */
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    onceflight_table_free(table);
}

static void null_is_refused_by_opening_a_url(void)
{
    onceflight_table *table = (onceflight_table *)(void *)GARBAGE;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_table_open(NULL, NULL, &table));
    CHECK(table == NULL);
}

static void null_is_freed_and_read_in_peace(void)
{
    onceflight_table_free(NULL);
    onceflight_options_free(NULL);
    onceflight_response_free(NULL);
    onceflight_queue_free(NULL);
    CHECK(onceflight_response_retain(NULL) == NULL);
    CHECK(onceflight_response_status(NULL) == 0);
    CHECK(onceflight_response_len(NULL) == 0);
    CHECK(onceflight_response_data(NULL) != NULL);
}

static void null_is_refused_by_the_queue(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_queue *queue = NULL;
    onceflight_request request = request_for("key");
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    onceflight_lead lead = 77;
    onceflight_response *response = GARBAGE;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_queue_new(NULL));
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_new(&queue));
    REQUIRE(queue != NULL);
    CHECK(onceflight_queue_fd(NULL) < 0);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_queue_next(NULL, 0, &event));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_queue_next(queue, 0, NULL));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_queue_leave(NULL, 1));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_async(NULL, &request, queue, 1, &lead, &response));
    CHECK(lead == 0 && response == NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_async(table, NULL, queue, 1, &lead, &response));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_async(table, &request, NULL, 1, &lead, &response));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_async(table, &request, queue, 1, NULL, &response));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_begin_async(table, &request, queue, 1, &lead, NULL));
    CHECK(stats_of(table).leads == 0);
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void expect_stale(const onceflight_table *table, onceflight_lead lead)
{
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    uint64_t before = stats_of(table).stale;
    info.fence = 77;
    info.attempt = 77;
    info.checkpoint = GARBAGE;
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, lead, 0, BYTES("stale")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete_for(table, lead, 0, BYTES("stale"), 1));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_cancel(table, lead));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_abandon(table, lead));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_cancel_with(table, lead, 0, BYTES("stale")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_abandon_with(table, lead, 0, BYTES("stale")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_decline(table, lead));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_renew(table, lead, 1));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_checkpoint(table, lead, BYTES("stale")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_lead_details(table, lead, &info));
    CHECK(info.fence == 0 && info.attempt == 0 && info.checkpoint == NULL);
    CHECK(stats_of(table).stale == before + 10);
}

static void a_lead_settles_once(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    expect_stale(table, lead);
    lead = lead_of(table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    expect_stale(table, lead);
    lead = lead_of(table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_decline(table, lead));
    expect_stale(table, lead);
    lead = lead_of(table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
    expect_stale(table, lead);
    onceflight_table_free(table);
}

static void zero_foreign_and_invented_leads_are_stale(void)
{
    onceflight_table *table = new_table(NULL), *other = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key"), foreign = lead_of(other, "key");
    uint64_t bit;
    expect_stale(table, 0);
    expect_stale(table, foreign);
    expect_stale(table, UINT64_MAX);
    for (bit = 1; bit != 0; bit <<= 1) {
        if ((lead ^ bit) != 0)
            EXPECT(ONCEFLIGHT_E_STALE, onceflight_cancel(table, lead ^ bit));
    }
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(other, foreign, 0, NULL, 0));
    onceflight_table_free(table);
    onceflight_table_free(other);
}

static void a_lease_of_nothing_is_refused(void)
{
    onceflight_options *options = onceflight_options_new();
    onceflight_table *table = new_table(NULL);
    onceflight_request request = request_for("key");
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_options_set_lease_ms(options, 0));
    request.lease_ms = 0;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_begin_request(table, &request, &lead, &response));
    lead = lead_of(table, "key");
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_renew(table, lead, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    onceflight_table_free(table);
    onceflight_options_free(options);
}

static void flags_nobody_knows_are_refused(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_request request = request_for("key");
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    request.flags = UINT32_C(1) << 31;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_begin_request(table, &request, &lead, &response));
    onceflight_table_free(table);
}

/* A program built with the first header runs for ever; one built with a later header runs too. */
static void structs_tell_their_size(void)
{
    struct {
        onceflight_request request;
        uint64_t later[4];
    } request;
    struct {
        onceflight_stats stats;
        uint64_t later[4];
    } stats;
    struct {
        onceflight_lead_info info;
        uint64_t later[4];
    } info;
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = 77, none = 77;
    onceflight_response *response = GARBAGE;

    memset(&request, 0, sizeof request);
    request.request = request_for("key");
    request.request.struct_size = 0;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_begin_request(table, &request.request, &lead, &response));
    CHECK(lead == 0 && response == NULL);
    request.request.struct_size = offsetof(onceflight_request, flags);
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_begin_request(table, &request.request, &lead, &response));
    request.request.struct_size = sizeof request;
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &request.request, &lead, &response));
    /* A wish this library can't fulfil isn't passed over in silence. */
    request.later[3] = 1;
    EXPECT(ONCEFLIGHT_E_UNSUPPORTED, onceflight_begin_request(table, &request.request, &none, &response));
    request.request.struct_size = SIZE_MAX;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_begin_request(table, &request.request, &none, &response));

    memset(&stats, 0, sizeof stats);
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_table_stats(table, &stats.stats));
    stats.stats.struct_size = sizeof stats.stats - 1;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_table_stats(table, &stats.stats));
    stats.stats.struct_size = sizeof stats;
    EXPECT(ONCEFLIGHT_OK, onceflight_table_stats(table, &stats.stats));
    CHECK(stats.stats.leads == 1 && stats.later[0] == 0 && stats.stats.struct_size == sizeof stats);

    memset(&info, 0, sizeof info);
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_lead_details(table, lead, &info.info));
    info.info.struct_size = offsetof(onceflight_lead_info, checkpoint);
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_lead_details(table, lead, &info.info));
    info.info.struct_size = sizeof info;
    EXPECT(ONCEFLIGHT_OK, onceflight_lead_details(table, lead, &info.info));
    CHECK(info.info.attempt == 1 && info.info.fence > 0 && info.later[0] == 0);
    onceflight_table_free(table);
}

static void events_tell_their_size(void)
{
    onceflight_queue *queue = NULL;
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_new(&queue));
    event.struct_size = sizeof event - 1;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_queue_next(queue, 0, &event));
    event.struct_size = sizeof event;
    event.tag = 77;
    event.outcome = 77;
    event.lead = 77;
    event.response = GARBAGE;
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_queue_next(queue, 0, &event));
    CHECK(event.tag == 0 && event.outcome == 0 && event.lead == 0 && event.response == NULL);
    CHECK(event.struct_size == sizeof event);
    onceflight_queue_free(queue);
}

static void statistics_that_fail_are_zero(void)
{
    onceflight_stats stats = ONCEFLIGHT_STATS_INIT;
    stats.leads = 77;
    stats.completed_bytes = 77;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_table_stats(NULL, &stats));
    CHECK(stats.leads == 0 && stats.completed_bytes == 0 && stats.struct_size == sizeof stats);
}

/* At the end of a thread its destructors may still call, though what this library keeps for the thread is gone. */
static struct {
    pthread_key_t key;
    onceflight_table *table;
    int32_t before, at_the_end, detail;
    size_t size;
} leaving;

static void fail_at_the_end(void *unused)
{
    (void)unused;
    leaving.at_the_end = onceflight_cancel(leaving.table, 12345);
    leaving.size = 0;
    leaving.detail = onceflight_last_error(NULL, &leaving.size);
}

static void *fail_and_leave(void *unused)
{
    (void)unused;
    leaving.before = onceflight_cancel(leaving.table, 12345);
    pthread_setspecific(leaving.key, &leaving);
    return NULL;
}

static void a_thread_may_fail_while_it_ends(void)
{
    pthread_t thread;
    leaving.table = new_table(NULL);
    REQUIRE(pthread_key_create(&leaving.key, fail_at_the_end) == 0);
    REQUIRE(pthread_create(&thread, NULL, fail_and_leave, NULL) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    EXPECT(ONCEFLIGHT_E_STALE, leaving.before);
    EXPECT(ONCEFLIGHT_E_STALE, leaving.at_the_end);
    /* The detail may be lost by then, but asking for its size is no fault. */
    EXPECT(ONCEFLIGHT_E_BUFFER, leaving.detail);
    CHECK(leaving.size > 0);
    pthread_key_delete(leaving.key);
    onceflight_table_free(leaving.table);
}

int main(void)
{
    RUN(null_is_refused_by_begin);
    RUN(null_is_refused_by_everything_else);
    RUN(null_is_refused_by_opening_a_url);
    RUN(null_is_freed_and_read_in_peace);
    RUN(null_is_refused_by_the_queue);
    RUN(a_lead_settles_once);
    RUN(zero_foreign_and_invented_leads_are_stale);
    RUN(a_lease_of_nothing_is_refused);
    RUN(flags_nobody_knows_are_refused);
    RUN(structs_tell_their_size);
    RUN(events_tell_their_size);
    RUN(statistics_that_fail_are_zero);
    RUN(a_thread_may_fail_while_it_ends);
    return check_done("misuse");
}
