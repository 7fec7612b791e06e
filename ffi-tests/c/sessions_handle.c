/* Tables of sessions as handles: snapshots, limits, names, NULLs, threads. */
#define _POSIX_C_SOURCE 200809L
#include "sessions.h"

static const uint8_t DIGEST[16] = {1, 2, 3};

/* Part of a log, from `turn` on. */
static void apply(onceflight_sessions *sessions, uint64_t turn, uint64_t end)
{
    for (; turn < end; turn++) {
        char client[] = {(char)('a' + turn % 7), '\0'};
        uint64_t seq = turn / 7 + 1, now = turn * 10, incarnation = registered_as(sessions, client, "n", now);
        if (told(sessions, client, incarnation, seq, seq > 2 ? seq - 2 : 0, DIGEST, now) == ONCEFLIGHT_LEAD) {
            char body[32];
            snprintf(body, sizeof body, "%s%d", client, (int)seq);
            EXPECT(ONCEFLIGHT_OK, record(sessions, client, incarnation, seq, (int32_t)seq, body));
        }
    }
}

static void replicas_and_what_was_restored_stay_the_same(void)
{
    onceflight_sessions *one = new_sessions(), *other = new_sessions(), *copy;
    onceflight_response *bytes;
    apply(one, 0, 40);
    apply(other, 0, 40);
    CHECK(same_state(one, other));
    bytes = snapshot_of(one);
    apply(one, 40, 60);
    CHECK(!same_state(one, other)); /* or that comparison is worth nothing */
    copy = restored_from(bytes);
    CHECK(same_state(copy, other));
    apply(copy, 30, 60); /* entries that it has already, too */
    CHECK(same_state(copy, one));
    CHECK(state_of(copy).sessions == 7 && state_of(copy).now_ms == 590);
    /* The limits came with the snapshot. */
    EXPECT(ONCEFLIGHT_E_WINDOW_FULL, begin(copy, "a", 1, 12));
    CHECK(expired_by(copy, 1590) == 7);
    onceflight_response_free(bytes);
    onceflight_sessions_free(one);
    onceflight_sessions_free(other);
    onceflight_sessions_free(copy);
}

static int32_t restore(const uint8_t *data, size_t len)
{
    onceflight_sessions *sessions = (onceflight_sessions *)(void *)&check_broken;
    int32_t code = onceflight_sessions_restore(data, len, &sessions);
    CHECK((sessions != NULL) == (code == ONCEFLIGHT_OK));
    onceflight_sessions_free(sessions);
    return code;
}

static void bytes_that_are_no_snapshot_are_refused(void)
{
    onceflight_sessions *sessions = new_sessions();
    onceflight_response *bytes;
    size_t len, at;
    uint8_t *copy;
    apply(sessions, 0, 20);
    bytes = snapshot_of(sessions);
    len = onceflight_response_len(bytes);
    copy = (uint8_t *)malloc(len + 1);
    REQUIRE(copy != NULL);
    memcpy(copy, onceflight_response_data(bytes), len);
    copy[len] = 0;
    EXPECT(ONCEFLIGHT_OK, restore(copy, len));
    EXPECT(ONCEFLIGHT_E_FORMAT, restore(copy, len + 1));
    EXPECT(ONCEFLIGHT_E_FORMAT, restore(NULL, 0));
    EXPECT(ONCEFLIGHT_E_NULL, restore(NULL, 1));
    for (at = 0; at < len; at++) {
        EXPECT(ONCEFLIGHT_E_FORMAT, restore(copy, at));
        copy[at] ^= 0x55;
        EXPECT(ONCEFLIGHT_E_FORMAT, restore(copy, len));
        copy[at] ^= 0x55;
    }
    free(copy);
    onceflight_response_free(bytes);
    onceflight_sessions_free(sessions);
}

/* A database: a row of its own for the table, and one a client. */
#define PLACES 8

typedef struct {
    uint8_t *data;
    size_t len;
} place;

typedef struct {
    place own, rows[PLACES];
} database;

static void replace(place *at, onceflight_slice row)
{
    free(at->data);
    at->data = NULL;
    at->len = row.len;
    if (row.data != NULL) {
        at->data = (uint8_t *)malloc(row.len);
        REQUIRE(at->data != NULL);
        memcpy(at->data, row.data, row.len);
    }
}

static void save(onceflight_sessions *sessions, database *to, size_t expected)
{
    onceflight_rows *rows = NULL;
    size_t index;
    int own = 0;
    REQUIRE(onceflight_sessions_save(sessions, &rows) == ONCEFLIGHT_OK && rows != NULL);
    CHECK(onceflight_rows_count(rows) == expected);
    for (index = 0; index < onceflight_rows_count(rows); index++) {
        onceflight_slice client, row;
        REQUIRE(onceflight_rows_at(rows, index, &client, &row) == ONCEFLIGHT_OK);
        if (client.data == NULL) {
            own++;
            replace(&to->own, row);
        } else {
            place *at = &to->rows[client.data[0] % PLACES];
            CHECK(client.len == 1);
            replace(at, row);
        }
    }
    CHECK(own == 1);
    onceflight_rows_free(rows);
}

static int32_t load(const database *from, onceflight_sessions **sessions)
{
    onceflight_slice rows[PLACES];
    size_t count = 0, i;
    for (i = 0; i < PLACES; i++) {
        if (from->rows[i].data != NULL) {
            rows[count].data = from->rows[i].data;
            rows[count++].len = from->rows[i].len;
        }
    }
    return onceflight_sessions_load(from->own.data, from->own.len, rows, count, sessions);
}

static void what_changed_is_saved_as_rows(void)
{
    onceflight_sessions *sessions = new_sessions(), *loaded = NULL;
    database rows;
    size_t i;
    memset(&rows, 0, sizeof rows);
    apply(sessions, 0, 20);
    save(sessions, &rows, 8); /* seven sessions, and the table */
    save(sessions, &rows, 1);
    apply(sessions, 20, 22);
    EXPECT(ONCEFLIGHT_OK, unregister(sessions, "c"));
    save(sessions, &rows, 4); /* a's and g's, c's deletion, and the table */
    REQUIRE(load(&rows, &loaded) == ONCEFLIGHT_OK);
    CHECK(same_state(loaded, sessions));
    save(loaded, &rows, 1);
    apply(loaded, 22, 40);
    apply(sessions, 22, 40);
    CHECK(same_state(loaded, sessions));
    onceflight_sessions_free(sessions);

    /* A row that is corrupt, or missing. */
    sessions = (onceflight_sessions *)(void *)&check_broken;
    rows.own.data[20] ^= 1;
    EXPECT(ONCEFLIGHT_E_FORMAT, load(&rows, &sessions));
    CHECK(sessions == NULL);
    rows.own.data[20] ^= 1;
    EXPECT(ONCEFLIGHT_E_FORMAT, onceflight_sessions_load(rows.own.data, rows.own.len, NULL, 0, &sessions));
    EXPECT(ONCEFLIGHT_OK, load(&rows, &sessions));
    onceflight_sessions_free(sessions);
    onceflight_sessions_free(loaded);
    for (i = 0; i < PLACES; i++)
        free(rows.rows[i].data);
    free(rows.own.data);
}

static void rows_are_handles_of_their_own(void)
{
    static const onceflight_slice nothing = {NULL, 0};
    onceflight_sessions *sessions = new_sessions(), *loaded = (onceflight_sessions *)(void *)&check_broken;
    onceflight_rows *rows = NULL, *none = (onceflight_rows *)(void *)&check_broken;
    onceflight_slice client = {(const uint8_t *)"x", 1}, row = {(const uint8_t *)"x", 1};
    uint64_t empty = 0;
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_register(sessions, NULL, 0, NULL, 0, 0, &empty));
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_save(sessions, &rows));
    onceflight_sessions_free(sessions);
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_rows_at(rows, 2, &client, &row));
    CHECK(client.data == NULL && client.len == 0 && row.data == NULL && row.len == 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_rows_at(rows, 0, &client, &row));
    CHECK(client.data != NULL && client.len == 0 && row.len > 0); /* the empty name isn't none */

    EXPECT(ONCEFLIGHT_E_NULL, onceflight_rows_at(NULL, 0, &client, &row));
    CHECK(client.data == NULL && row.data == NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_rows_at(rows, 0, NULL, &row));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_rows_at(rows, 0, &client, NULL));
    CHECK(onceflight_rows_count(NULL) == 0);
    onceflight_rows_free(NULL);
    onceflight_rows_free(rows);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_save(NULL, &none));
    CHECK(none == NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_load(NULL, 1, NULL, 0, &loaded));
    CHECK(loaded == NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_load(NULL, 0, NULL, 1, &loaded));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_load(NULL, 0, NULL, 0, NULL));
    EXPECT(ONCEFLIGHT_E_FORMAT, onceflight_sessions_load(NULL, 0, &nothing, 1, &loaded));

    sessions = new_sessions();
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_save(sessions, NULL));
    EXPECT(ONCEFLIGHT_LEAD, begin(sessions, "a", 0, 1));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_save(sessions, &none));
    EXPECT(ONCEFLIGHT_OK, record(sessions, "a", 0, 1, 0, "x"));
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_save(sessions, &rows));
    CHECK(onceflight_rows_count(rows) == 2);
    onceflight_rows_free(rows);
    onceflight_sessions_free(sessions);
}

static int32_t made_with(onceflight_session_limits limits)
{
    onceflight_sessions *sessions = (onceflight_sessions *)(void *)&check_broken;
    int32_t code = onceflight_sessions_with_limits(&limits, &sessions);
    CHECK((sessions != NULL) == (code == ONCEFLIGHT_OK));
    onceflight_sessions_free(sessions);
    return code;
}

static void limits_out_of_range_are_refused(void)
{
    const onceflight_session_limits init = ONCEFLIGHT_SESSION_LIMITS_INIT;
    onceflight_session_limits limits;
    onceflight_sessions *sessions = NULL;
    struct {
        onceflight_session_limits known;
        uint64_t newer;
    } larger;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_new(0, 1, 1, &sessions));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_new(1, 0, 1, &sessions));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_new(1, 65, 1, &sessions));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_new(1, 1, 0, &sessions));
    CHECK(sessions == NULL);
    EXPECT(ONCEFLIGHT_OK, made_with(init));
#define REFUSED(field, value) (limits = init, limits.field = (value), EXPECT(ONCEFLIGHT_E_INVALID, made_with(limits)))
    REFUSED(max_sessions, 0);
    REFUSED(max_sessions, UINT64_C(1) << 32);
    REFUSED(window, UINT64_C(1) << 32 | 1);
    REFUSED(timeout_ms, 0);
    REFUSED(max_response_len, (UINT64_C(1) << 31) + 1);
    REFUSED(max_bytes, 1); /* less than one session may have */
    REFUSED(struct_size, sizeof limits - 1);
    REFUSED(struct_size, 0);
#undef REFUSED
    memset(&larger, 0, sizeof larger);
    larger.known = init;
    larger.known.struct_size = sizeof larger;
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_with_limits(&larger.known, &sessions));
    onceflight_sessions_free(sessions);
    larger.newer = 1;
    EXPECT(ONCEFLIGHT_E_UNSUPPORTED, onceflight_sessions_with_limits(&larger.known, &sessions));
    CHECK(sessions == NULL);
}

static void names_are_any_bytes_but_not_many(void)
{
    static const uint8_t longest[256] = {0};
    onceflight_sessions *sessions = new_sessions();
    onceflight_response *response = GARBAGE;
    uint64_t number = 0, empty = 0;
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_register(sessions, NULL, 0, NULL, 0, 0, &empty));
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_register(sessions, longest, 1, longest, 255, 0, &number));
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_register(sessions, longest, 2, BYTES("n"), 0, &number));
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_register(sessions, longest, 255, BYTES("n"), 0, &number));
    CHECK(state_of(sessions).sessions == 4);
    EXPECT(ONCEFLIGHT_LEAD, onceflight_sessions_begin(sessions, NULL, 0, empty, 1, 0, NULL, 0, &response));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_record(sessions, longest, 256, empty, 1, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_sessions_record(sessions, NULL, 0, empty, 1, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_sessions_peek(sessions, NULL, 0, empty, 1, &response));
    CHECK(response_is(response, 0, ""));
    onceflight_response_free(response);
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_sessions_register(sessions, longest, 256, NULL, 0, 0, &number));
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, onceflight_sessions_register(sessions, NULL, 0, longest, 256, 0, &number));
    EXPECT(ONCEFLIGHT_E_MALFORMED, onceflight_sessions_begin(sessions, longest, 256, 1, 1, 0, NULL, 0, &response));
    CHECK(number == 0 && response == NULL);
    /* A length that was made up isn't read. */
    EXPECT(ONCEFLIGHT_E_EXPIRED, onceflight_sessions_peek(sessions, longest, SIZE_MAX / 2, 1, 1, &response));
    EXPECT(ONCEFLIGHT_E_EXPIRED, onceflight_sessions_keep_alive(sessions, longest, SIZE_MAX / 2, 1, 0));
    EXPECT(ONCEFLIGHT_E_EXPIRED, onceflight_sessions_unregister(sessions, longest, SIZE_MAX / 2));
    onceflight_sessions_free(sessions);
}

static void null_is_refused(void)
{
    onceflight_sessions *sessions = new_sessions();
    const onceflight_session_limits limits = ONCEFLIGHT_SESSION_LIMITS_INIT;
    onceflight_session_stats stats = {sizeof stats, 7, 7, 7};
    onceflight_sessions *made = (onceflight_sessions *)(void *)&check_broken;
    onceflight_response *response = GARBAGE;
    uint64_t number = 77;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_new(1, 1, 1, NULL));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_with_limits(&limits, NULL));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_with_limits(NULL, &made));
    CHECK(made == NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_restore(BYTES("x"), NULL));

    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_register(NULL, BYTES("a"), BYTES("n"), 0, &number));
    CHECK(number == 0);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_register(sessions, NULL, 1, BYTES("n"), 0, &number));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_register(sessions, BYTES("a"), NULL, 1, 0, &number));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_register(sessions, BYTES("a"), BYTES("n"), 0, NULL));

    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_begin(NULL, BYTES("a"), 0, 1, 0, NULL, 0, &response));
    CHECK(response == NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_begin(sessions, NULL, 1, 0, 1, 0, NULL, 0, &response));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_begin(sessions, BYTES("a"), 0, 1, 0, NULL, 0, NULL));
    CHECK(state_of(sessions).sessions == 0);

    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_record(NULL, BYTES("a"), 0, 1, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_record(sessions, NULL, 1, 0, 1, 0, NULL, 0));

    response = GARBAGE;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_peek(NULL, BYTES("a"), 0, 1, &response));
    CHECK(response == NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_peek(sessions, NULL, 1, 0, 1, &response));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_peek(sessions, BYTES("a"), 0, 1, NULL));

    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_keep_alive(NULL, BYTES("a"), 0, 0));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_keep_alive(sessions, NULL, 1, 0, 0));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_unregister(NULL, BYTES("a")));
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_unregister(sessions, NULL, 1));

    number = 77;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_expire(NULL, 0, &number));
    CHECK(number == 0);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_expire(sessions, 0, NULL));

    response = GARBAGE;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_snapshot(NULL, &response));
    CHECK(response == NULL);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_snapshot(sessions, NULL));

    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_stats(NULL, &stats));
    CHECK(stats.sessions == 0 && stats.response_bytes == 0 && stats.now_ms == 0);
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_sessions_stats(sessions, NULL));
    stats.struct_size = 1;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_stats(sessions, &stats));
    onceflight_sessions_free(NULL);
    onceflight_sessions_free(sessions);
}

static void the_last_error_says_what_is_wrong(void)
{
    char detail[256];
    size_t size = sizeof detail;
    onceflight_sessions *sessions = NULL;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_sessions_new(10, 65, 1, &sessions));
    EXPECT(ONCEFLIGHT_OK, onceflight_last_error(detail, &size));
    CHECK(strstr(detail, "window of 65") != NULL);
}

/* One thread applies a log; others look and take snapshots meanwhile. */
#define ENTRIES 2000
#define READERS 3

typedef struct {
    pthread_t thread;
    onceflight_sessions *sessions;
    uint64_t incarnation, looks, snapshots, wrong;
} reader;

static int log_over;

static void *look_while_it_is_applied(void *argument)
{
    reader *self = (reader *)argument;
    while (!__atomic_load_n(&log_over, __ATOMIC_ACQUIRE)) {
        onceflight_response *response = NULL;
        onceflight_sessions *copy = NULL;
        int32_t code = onceflight_sessions_peek(self->sessions, BYTES("a"), self->incarnation, 1, &response);
        self->looks++;
        self->wrong += code != ONCEFLIGHT_REPLAYED || !response_is(response, 1, "first");
        onceflight_response_free(response);
        code = onceflight_sessions_snapshot(self->sessions, &response);
        if (code == ONCEFLIGHT_OK) {
            self->wrong += onceflight_sessions_restore(onceflight_response_data(response),
                                                       onceflight_response_len(response), &copy) != ONCEFLIGHT_OK;
            onceflight_sessions_free(copy);
            onceflight_response_free(response);
        } else {
            self->wrong += code != ONCEFLIGHT_E_INVALID; /* an entry is open */
        }
        __atomic_add_fetch(&self->snapshots, code == ONCEFLIGHT_OK, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void threads_may_look_and_snapshot_while_one_applies(void)
{
    onceflight_sessions *sessions = new_sessions();
    reader readers[READERS];
    uint64_t a = registered(sessions, "a"), b = registered(sessions, "b"), seq = 1;
    int i;
    EXPECT(ONCEFLIGHT_LEAD, begin(sessions, "a", a, 1));
    EXPECT(ONCEFLIGHT_OK, record(sessions, "a", a, 1, 1, "first"));
    for (i = 0; i < READERS; i++) {
        memset(&readers[i], 0, sizeof readers[i]);
        readers[i].sessions = sessions;
        readers[i].incarnation = a;
        REQUIRE(pthread_create(&readers[i].thread, NULL, look_while_it_is_applied, &readers[i]) == 0);
    }
    for (i = 0; i < READERS;) {
        EXPECT(ONCEFLIGHT_LEAD, told(sessions, "b", b, seq, seq, NO_DIGEST, 0));
        EXPECT(ONCEFLIGHT_OK, record(sessions, "b", b, seq, 0, "x"));
        seq++;
        while (i < READERS && seq > ENTRIES && __atomic_load_n(&readers[i].snapshots, __ATOMIC_ACQUIRE) > 0)
            i++;
    }
    __atomic_store_n(&log_over, 1, __ATOMIC_RELEASE);
    for (i = 0; i < READERS; i++) {
        REQUIRE(pthread_join(readers[i].thread, NULL) == 0);
        CHECK(readers[i].looks > 0 && readers[i].wrong == 0);
    }
    onceflight_sessions_free(sessions);
}

int main(void)
{
    RUN(replicas_and_what_was_restored_stay_the_same);
    RUN(bytes_that_are_no_snapshot_are_refused);
    RUN(what_changed_is_saved_as_rows);
    RUN(rows_are_handles_of_their_own);
    RUN(limits_out_of_range_are_refused);
    RUN(names_are_any_bytes_but_not_many);
    RUN(null_is_refused);
    RUN(the_last_error_says_what_is_wrong);
    RUN(threads_may_look_and_snapshot_while_one_applies);
    return check_done("sessions_handle");
}
