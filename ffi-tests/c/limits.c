/* Every limit answers with its own error, or evicts; memory is bounded at every instant. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

static void keys_in_flight_are_limited(void)
{
    onceflight_table *table = table_with(onceflight_options_set_max_in_flight, 2, NULL, 0);
    onceflight_lead one = lead_of(table, "one"), two = lead_of(table, "two"), none = 77;
    onceflight_response *response = GARBAGE;
    EXPECT(ONCEFLIGHT_E_OVERLOADED, onceflight_begin(table, BYTES("three"), FOREVER, &none, &response));
    CHECK(none == 0 && response == NULL);
    /* A key that is in flight already can still be waited for. */
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, "one"));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, one));
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "three"));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, two, 0, NULL, 0));
    onceflight_table_free(table);
}

static void waiters_of_a_key_are_limited(void)
{
    onceflight_table *table = table_with(onceflight_options_set_max_waiters, 1, NULL, 0);
    onceflight_lead lead = lead_of(table, "key"), other, none = 0;
    onceflight_response *response = NULL;
    caller follower, elsewhere;
    caller_join_line(&follower, table, "key", 0);
    EXPECT(ONCEFLIGHT_E_OVERLOADED, onceflight_begin(table, BYTES("key"), FOREVER, &none, &response));
    EXPECT(ONCEFLIGHT_E_OVERLOADED, onceflight_begin(table, BYTES("key"), 1, &none, &response));
    /* Who doesn't wait needs no place in the line. */
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin(table, BYTES("key"), 0, &none, &response));
    other = lead_of(table, "other");
    caller_join_line(&elsewhere, table, "other", 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, other, 0, NULL, 0));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 0, ""));
    CHECK(caller_got(&elsewhere, ONCEFLIGHT_SHARED, 0, ""));
    onceflight_table_free(table);
}

static void completed_entries_are_limited_at_every_instant(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS,
                                         onceflight_options_set_max_completed, 10);
    char key[16];
    int i, replayed = 0;
    for (i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "key %d", i);
        EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead_of(table, key), 0, NULL, 0));
        CHECK(stats_of(table).completed <= 10);
    }
    CHECK(stats_of(table).completed > 0);
    CHECK(stats_of(table).completed + stats_of(table).evictions == 200);
    for (i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "key %d", i);
        replayed += probe(table, key) == ONCEFLIGHT_REPLAYED;
    }
    CHECK(replayed > 0 && replayed <= 10);
    onceflight_table_free(table);
}

static void completed_bytes_are_limited_at_every_instant(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS,
                                         onceflight_options_set_max_completed_bytes, 1000);
    static uint8_t body[2000];
    char key[16];
    int i;
    for (i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "key %03d", i);
        EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead_of(table, key), 0, body, 93));
        CHECK(stats_of(table).completed_bytes <= 1000);
        CHECK(stats_of(table).completed_bytes == stats_of(table).completed * 100);
    }
    CHECK(stats_of(table).completed > 0);
    /* One that alone is more than the window holds is shared and not kept. */
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead_of(table, "large"), 0, body, sizeof body));
    CHECK(stats_of(table).completed_bytes <= 1000);
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "large"));
    onceflight_table_free(table);
}

static const onceflight_table *crowded;

static void *complete_many(void *argument)
{
    char key[32];
    int i;
    for (i = 0; i < 500; i++) {
        onceflight_lead lead = 0;
        onceflight_response *response = NULL;
        snprintf(key, sizeof key, "%d of %d", i, *(const int *)argument);
        if (onceflight_begin(crowded, (const uint8_t *)key, strlen(key), FOREVER, &lead, &response) == ONCEFLIGHT_LEAD)
            onceflight_complete(crowded, lead, 0, BYTES("body"));
        onceflight_response_free(response);
    }
    return NULL;
}

/* Looked at once it is at rest: statistics are gathered shard by shard, so that traffic blurs them. */
static void threads_do_not_fill_the_window_past_its_bound(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS,
                                         onceflight_options_set_max_completed, 8);
    pthread_t threads[4];
    int names[4], i;
    crowded = table;
    for (i = 0; i < 4; i++) {
        names[i] = i;
        REQUIRE(pthread_create(&threads[i], NULL, complete_many, &names[i]) == 0);
    }
    for (i = 0; i < 4; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    CHECK(stats_of(table).completed <= 8 && stats_of(table).completed + stats_of(table).evictions == 2000);
    onceflight_table_free(table);
}

static void keys_are_limited_in_length(void)
{
    onceflight_table *table = table_with(onceflight_options_set_max_key_len, 4, NULL, 0);
    onceflight_lead none = 77;
    onceflight_response *response = GARBAGE;
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "four"));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_begin(table, BYTES("fiver"), 0, &none, &response));
    CHECK(none == 0 && response == NULL);
    onceflight_table_free(table);
}

/* A completion that is refused leaves the lead live. */
static void responses_are_limited_in_length(void)
{
    onceflight_table *table = table_with(onceflight_options_set_max_response_len, 4, NULL, 0);
    onceflight_lead lead = lead_of(table, "key");
    caller follower;
    caller_join_line(&follower, table, "key", 0);
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_complete(table, lead, 0, BYTES("fiver")));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_complete_for(table, lead, 0, BYTES("fiver"), 0));
    CHECK(stats_of(table).waiting == 1 && stats_of(table).in_flight == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, BYTES("four")));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 0, "four"));
    onceflight_table_free(table);
}

/* Lengths no memory has: refused before a byte is read. */
static void huge_lengths_are_refused(void)
{
    static const size_t huge[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2 + 1, SIZE_MAX / 2};
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_of(table, "key"), none = 0;
    onceflight_response *response = NULL;
    onceflight_request request = request_for("key");
    size_t i;
    for (i = 0; i < sizeof huge / sizeof *huge; i++) {
        const uint8_t *byte = (const uint8_t *)"x";
        EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_begin(table, byte, huge[i], 0, &none, &response));
        EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_forget(table, byte, huge[i]));
        EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_complete(table, lead, 0, byte, huge[i]));
        EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_complete_for(table, lead, 0, byte, huge[i], 0));
        EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_checkpoint(table, lead, byte, huge[i]));
        request.fingerprint = byte;
        request.fingerprint_len = huge[i];
        EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_begin_request(table, &request, &none, &response));
    }
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    onceflight_table_free(table);
}

int main(void)
{
    RUN(keys_in_flight_are_limited);
    RUN(waiters_of_a_key_are_limited);
    RUN(completed_entries_are_limited_at_every_instant);
    RUN(completed_bytes_are_limited_at_every_instant);
    RUN(threads_do_not_fill_the_window_past_its_bound);
    RUN(keys_are_limited_in_length);
    RUN(responses_are_limited_in_length);
    RUN(huge_lengths_are_refused);
    return check_done("limits");
}
