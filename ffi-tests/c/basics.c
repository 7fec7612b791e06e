/* Versions, names of codes, the last error, options, opening tables, and the life of one key on one thread. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

static const struct {
    int32_t code;
    const char *name;
} CODES[] = {
#define CODE(name) {name, #name}
    CODE(ONCEFLIGHT_OK), CODE(ONCEFLIGHT_LEAD), CODE(ONCEFLIGHT_SHARED), CODE(ONCEFLIGHT_REPLAYED),
    CODE(ONCEFLIGHT_PENDING), CODE(ONCEFLIGHT_BYPASS), CODE(ONCEFLIGHT_E_NULL), CODE(ONCEFLIGHT_E_INVALID),
    CODE(ONCEFLIGHT_E_PANIC), CODE(ONCEFLIGHT_E_TIMEOUT), CODE(ONCEFLIGHT_E_STALE), CODE(ONCEFLIGHT_E_CANCELLED),
    CODE(ONCEFLIGHT_E_MISMATCH), CODE(ONCEFLIGHT_E_WOULD_DEADLOCK), CODE(ONCEFLIGHT_E_OVERLOADED),
    CODE(ONCEFLIGHT_E_TOO_LARGE), CODE(ONCEFLIGHT_E_CLOSED), CODE(ONCEFLIGHT_E_FORKED), CODE(ONCEFLIGHT_E_STORE),
    CODE(ONCEFLIGHT_E_UNKNOWN), CODE(ONCEFLIGHT_E_BUFFER), CODE(ONCEFLIGHT_E_UNSUPPORTED),
    CODE(ONCEFLIGHT_E_EXPIRED), CODE(ONCEFLIGHT_E_FENCED), CODE(ONCEFLIGHT_E_SEQ_STALE),
    CODE(ONCEFLIGHT_E_WINDOW_FULL), CODE(ONCEFLIGHT_E_CONFLICT), CODE(ONCEFLIGHT_E_MALFORMED),
    CODE(ONCEFLIGHT_E_FORMAT),
#undef CODE
};
#define CODE_COUNT (sizeof CODES / sizeof *CODES)

static void the_header_and_the_library_are_one_version(void)
{
    char expected[64];
    CHECK(onceflight_version_number() / 1000000 == ONCEFLIGHT_VERSION_MAJOR);
    CHECK(onceflight_version_number() / 1000 % 1000 == ONCEFLIGHT_VERSION_MINOR);
    CHECK(onceflight_version_number() % 1000 == ONCEFLIGHT_VERSION_PATCH);
    snprintf(expected, sizeof expected, "%d.%d.%d", (int)ONCEFLIGHT_VERSION_MAJOR, (int)ONCEFLIGHT_VERSION_MINOR,
             (int)ONCEFLIGHT_VERSION_PATCH);
    CHECK(strcmp(onceflight_version_string(), expected) == 0);
}

/* The values are pinned for ever: a program built today runs against tomorrow's library. */
static void codes_keep_their_values(void)
{
    static const int32_t pinned[] = {0,  1,  2,   3,   4,   5,   -1,  -2,  -3,  -4,  -5,  -6,  -7,  -8, -9,
                                     -10, -11, -12, -13, -14, -15, -16, -20, -21, -22, -23, -24, -25, -26};
    size_t i;
    REQUIRE(sizeof pinned / sizeof *pinned == CODE_COUNT);
    for (i = 0; i < CODE_COUNT; i++)
        CHECK(CODES[i].code == pinned[i]);
}

static void every_code_has_a_name_and_a_text_of_its_own(void)
{
    size_t i, j;
    for (i = 0; i < CODE_COUNT; i++) {
        CHECK(strcmp(onceflight_err_name(CODES[i].code), CODES[i].name) == 0);
        CHECK(strlen(onceflight_strerror(CODES[i].code)) > 0);
        for (j = 0; j < i; j++)
            CHECK(strcmp(onceflight_strerror(CODES[i].code), onceflight_strerror(CODES[j].code)) != 0);
    }
}

static void unknown_codes_have_a_name_too(void)
{
    static const int32_t unknown[] = {6, 1000, -17, -19, -27, INT32_MAX, INT32_MIN};
    size_t i, j;
    for (i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        CHECK(onceflight_err_name(unknown[i]) != NULL && onceflight_strerror(unknown[i]) != NULL);
        for (j = 0; j < CODE_COUNT; j++)
            CHECK(strcmp(onceflight_err_name(unknown[i]), CODES[j].name) != 0);
    }
}

static void provoke_an_error(void)
{
    onceflight_table *table = NULL;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_table_open("no such store", NULL, &table));
}

static void the_last_error_is_told_into_a_buffer(void)
{
    char text[512], again[512], guard[8];
    size_t needed = 0, size;
    provoke_an_error();
    EXPECT(ONCEFLIGHT_E_BUFFER, onceflight_last_error(NULL, &needed));
    REQUIRE(needed > 1 && needed <= sizeof text);

    memset(guard, 'x', sizeof guard);
    size = 1;
    EXPECT(ONCEFLIGHT_E_BUFFER, onceflight_last_error(guard, &size));
    CHECK(size == needed);
    CHECK(guard[0] == 'x' && guard[1] == 'x');
    size = needed - 1;
    memset(text, 'x', sizeof text);
    EXPECT(ONCEFLIGHT_E_BUFFER, onceflight_last_error(text, &size));
    CHECK(size == needed && text[0] == 'x');

    size = needed;
    EXPECT(ONCEFLIGHT_OK, onceflight_last_error(text, &size));
    CHECK(size == needed && strlen(text) + 1 == needed);
    CHECK(text[needed] == 'x');

    /* Neither E_BUFFER nor a NULL size took the place of what was told. */
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_last_error(text, NULL));
    size = sizeof again;
    EXPECT(ONCEFLIGHT_OK, onceflight_last_error(again, &size));
    CHECK(strcmp(text, again) == 0);
}

static void *last_error_of_a_fresh_thread(void *size)
{
    char text[512];
    int32_t code = onceflight_last_error(text, (size_t *)size);
    return code == ONCEFLIGHT_OK && text[0] == '\0' ? size : NULL;
}

static void the_last_error_is_the_threads_own(void)
{
    pthread_t thread;
    void *result = NULL;
    size_t size = 512;
    provoke_an_error();
    REQUIRE(pthread_create(&thread, NULL, last_error_of_a_fresh_thread, &size) == 0);
    REQUIRE(pthread_join(thread, &result) == 0);
    CHECK(result == &size);
    CHECK(size == 1);
}

static void options_take_their_values_and_refuse_nonsense(void)
{
    static const setter numbers[] = {
        onceflight_options_set_completed_ttl_ms,    onceflight_options_set_lease_ms,
        onceflight_options_set_max_lead_ms,         onceflight_options_set_store_timeout_ms,
        onceflight_options_set_max_in_flight,       onceflight_options_set_max_waiters,
        onceflight_options_set_max_completed,       onceflight_options_set_max_completed_bytes,
        onceflight_options_set_max_key_len,         onceflight_options_set_max_response_len,
        onceflight_options_set_offer_ms,
    };
    onceflight_options *options = onceflight_options_new();
    size_t i;
    REQUIRE(options != NULL);
    for (i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        EXPECT(ONCEFLIGHT_OK, numbers[i](options, 1000));
        EXPECT(ONCEFLIGHT_E_NULL, numbers[i](NULL, 1000));
    }
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_heartbeat(options, 1));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_heartbeat(options, 0));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_options_set_heartbeat(options, 2));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_options_set_heartbeat(NULL, 1));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_on_cancel(options, ONCEFLIGHT_FAIL_ALL));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_on_cancel(options, ONCEFLIGHT_PROMOTE));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_options_set_on_cancel(options, 99));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_options_set_on_cancel(NULL, ONCEFLIGHT_PROMOTE));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_on_lease_expired(options, ONCEFLIGHT_HOLD));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_on_lease_expired(options, ONCEFLIGHT_TAKE_OVER));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_options_set_on_lease_expired(options, 99));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_options_set_on_lease_expired(NULL, ONCEFLIGHT_HOLD));
    onceflight_options_free(options);
    onceflight_options_free(NULL);
}

static void a_url_names_the_store(void)
{
    static const char *const nowhere[] = {"sqlite:/nonexistent/directory/x.db", "postgres://nobody@localhost:1/x",
                                          "redis://localhost:1", "redis-cluster://localhost:1"};
    static const char *const garbage[] = {"", ":", "memory", "no such store", "http://localhost", "\xff\xfe:"};
    onceflight_table *table = NULL;
    size_t i;
    EXPECT(ONCEFLIGHT_OK, onceflight_table_open("memory:", NULL, &table));
    REQUIRE(table != NULL);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead_of(table, "key")));
    onceflight_table_free(table);
    for (i = 0; i < sizeof nowhere / sizeof *nowhere; i++) {
        int32_t code;
        table = (onceflight_table *)(void *)GARBAGE;
        code = onceflight_table_open(nowhere[i], NULL, &table);
        /* As the library was built: with the store, which can't be reached, or without. */
        CHECK(code == ONCEFLIGHT_E_STORE || code == ONCEFLIGHT_E_UNSUPPORTED);
        CHECK(table == NULL);
    }
    for (i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        table = (onceflight_table *)(void *)GARBAGE;
        EXPECT(ONCEFLIGHT_E_INVALID, onceflight_table_open(garbage[i], NULL, &table));
        CHECK(table == NULL);
    }
}

static void a_completed_key_replays_within_its_window(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_response *first = NULL, *second = NULL;
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, -7, BYTES("body")));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin(table, BYTES("key"), FOREVER, &lead, &first));
    CHECK(lead == 0 && response_is(first, -7, "body"));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin(table, BYTES("key"), 0, &lead, &second));
    /* One immutable value, no copy a caller. */
    CHECK(onceflight_response_data(first) == onceflight_response_data(second));
    onceflight_response_free(first);
    CHECK(response_is(second, -7, "body"));
    onceflight_response_free(second);
    onceflight_table_free(table);
}

static void without_a_window_a_completed_key_is_vacant(void)
{
    onceflight_table *table = new_table(NULL);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead_of(table, "key"), 200, BYTES("body")));
    CHECK(stats_of(table).completed == 0 && stats_of(table).in_flight == 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead_of(table, "key")));
    onceflight_table_free(table);
}

static void empty_and_binary_keys_and_bodies_are_values_like_others(void)
{
    static const uint8_t binary[] = {0xff, 0x00, 0xc3, 0x28, 0x00};
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_lead empty = 0, zeros = 0, other = 0;
    onceflight_response *response = NULL;
    /* NULL of length 0 is the empty key, and so is a pointer of length 0. */
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin(table, NULL, 0, 0, &empty, &response));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin(table, binary, 0, 0, &other, &response));
    /* Keys are bytes: neither a zero nor bad UTF-8 ends one. */
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin(table, binary, sizeof binary, 0, &zeros, &response));
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin(table, binary, 2, 0, &other, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, empty, 204, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, zeros, 0, binary, sizeof binary));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, other));

    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin(table, NULL, 0, 0, &other, &response));
    CHECK(response_is(response, 204, ""));
    CHECK(onceflight_response_data(response) != NULL);
    onceflight_response_free(response);
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin(table, binary, sizeof binary, 0, &other, &response));
    REQUIRE(onceflight_response_len(response) == sizeof binary);
    CHECK(memcmp(onceflight_response_data(response), binary, sizeof binary) == 0);
    onceflight_response_free(response);
    onceflight_table_free(table);
}

static void a_response_lives_until_its_last_handle_is_freed(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_response *response = NULL, *second;
    onceflight_lead lead = lead_of(table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 1, BYTES("kept")));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin(table, BYTES("key"), 0, &lead, &response));
    second = onceflight_response_retain(response);
    onceflight_table_free(table);
    onceflight_response_free(response);
    CHECK(response_is(second, 1, "kept"));
    onceflight_response_free(second);
}

static void leads_never_repeat_and_never_are_zero(void)
{
    onceflight_table *one = new_table(NULL), *two = new_table(NULL);
    onceflight_lead seen[64];
    int i, j;
    for (i = 0; i < 64; i++) {
        const onceflight_table *table = i % 2 == 0 ? one : two;
        seen[i] = lead_of(table, "key");
        CHECK(seen[i] != 0);
        for (j = 0; j < i; j++)
            CHECK(seen[i] != seen[j]);
        EXPECT(ONCEFLIGHT_OK, i % 3 == 0 ? onceflight_cancel(table, seen[i])
                                         : onceflight_complete(table, seen[i], 0, NULL, 0));
    }
    onceflight_table_free(one);
    onceflight_table_free(two);
}

static void statistics_add_up(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_stats stats;
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, "key"));
    stats = stats_of(table);
    CHECK(stats.leads == 1 && stats.in_flight == 1 && stats.waiting == 0 && stats.timeouts == 1);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, BYTES("12345")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_REPLAYED, probe(table, "key"));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead_of(table, "other")));
    stats = stats_of(table);
    CHECK(stats.struct_size == sizeof stats);
    CHECK(stats.leads == 2 && stats.replayed == 1 && stats.shared == 0 && stats.bypassed == 0);
    CHECK(stats.cancels == 1 && stats.stale == 1 && stats.promotions == 0 && stats.takeovers == 0);
    CHECK(stats.in_flight == 0 && stats.completed == 1 && stats.completed_bytes == 3 + 5);
    onceflight_table_free(table);
}

int main(void)
{
    RUN(the_header_and_the_library_are_one_version);
    RUN(codes_keep_their_values);
    RUN(every_code_has_a_name_and_a_text_of_its_own);
    RUN(unknown_codes_have_a_name_too);
    RUN(the_last_error_is_told_into_a_buffer);
    RUN(the_last_error_is_the_threads_own);
    RUN(options_take_their_values_and_refuse_nonsense);
    RUN(a_url_names_the_store);
    RUN(a_completed_key_replays_within_its_window);
    RUN(without_a_window_a_completed_key_is_vacant);
    RUN(empty_and_binary_keys_and_bodies_are_values_like_others);
    RUN(a_response_lives_until_its_last_handle_is_freed);
    RUN(leads_never_repeat_and_never_are_zero);
    RUN(statistics_add_up);
    return check_done("basics");
}
