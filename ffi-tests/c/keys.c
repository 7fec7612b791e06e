/* Request keys and fingerprints: equal for equal input, different for any other, whoever computes them. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

static const uint8_t SECRET[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t OTHER_SECRET[16] = {1};

typedef struct {
    uint8_t bytes[16];
} digest;

static int same(digest a, digest b)
{
    return memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}

static onceflight_slice slice(const char *text)
{
    onceflight_slice result;
    result.data = (const uint8_t *)text;
    result.len = strlen(text);
    return result;
}

static digest fingerprint_of(const char *first, const char *second, const uint8_t *secret)
{
    onceflight_slice fields[2];
    digest result;
    fields[0] = slice(first);
    fields[1] = slice(second);
    REQUIRE(onceflight_fingerprint(fields, 2, secret, result.bytes) == ONCEFLIGHT_OK);
    return result;
}

static void a_fingerprint_depends_on_every_field_and_its_bounds(void)
{
    digest reference = fingerprint_of("ab", "c", SECRET);
    CHECK(same(reference, fingerprint_of("ab", "c", SECRET)));
    CHECK(!same(reference, fingerprint_of("a", "bc", SECRET)));
    CHECK(!same(reference, fingerprint_of("abc", "", SECRET)));
    CHECK(!same(reference, fingerprint_of("c", "ab", SECRET)));
    CHECK(!same(reference, fingerprint_of("ab", "d", SECRET)));
    CHECK(!same(reference, fingerprint_of("ab", "c", OTHER_SECRET)));
    CHECK(same(fingerprint_of("ab", "c", NULL), fingerprint_of("ab", "c", NULL)));
}

static void the_count_of_fields_is_part_of_a_fingerprint(void)
{
    onceflight_slice empty = {NULL, 0};
    digest none, one;
    REQUIRE(onceflight_fingerprint(NULL, 0, SECRET, none.bytes) == ONCEFLIGHT_OK);
    REQUIRE(onceflight_fingerprint(&empty, 1, SECRET, one.bytes) == ONCEFLIGHT_OK);
    CHECK(!same(none, one));
    empty.len = 1;
    EXPECT(ONCEFLIGHT_E_NULL, onceflight_fingerprint(&empty, 1, SECRET, one.bytes));
}

static digest request_key(const char *method, const char *url, const char *header, const char *body,
                          const uint8_t *secret)
{
    onceflight_slice headers = slice(header);
    digest result;
    REQUIRE(onceflight_request_key(method, url, &headers, 1, (const uint8_t *)body, strlen(body), secret,
                                   result.bytes) == ONCEFLIGHT_OK);
    return result;
}

static void a_request_key_depends_on_every_part(void)
{
    digest reference = request_key("POST", "/pay", "accept: text/plain", "body", SECRET);
    CHECK(same(reference, request_key("POST", "/pay", "accept: text/plain", "body", SECRET)));
    CHECK(!same(reference, request_key("PUT", "/pay", "accept: text/plain", "body", SECRET)));
    CHECK(!same(reference, request_key("POST", "/pay?", "accept: text/plain", "body", SECRET)));
    CHECK(!same(reference, request_key("POST", "/pay", "accept: text/html", "body", SECRET)));
    CHECK(!same(reference, request_key("POST", "/pay", "accept: text/plain", "bodY", SECRET)));
    CHECK(!same(reference, request_key("POST", "/pay", "accept: text/plain", "body", OTHER_SECRET)));
}

static void a_header_is_a_name_and_a_value(void)
{
    static const char *const bad[] = {"no colon", ": no name", "name : blank", "split: a\r\nb: c", ""};
    digest reference = request_key("GET", "/", "Accept: text/plain", "", SECRET), out;
    size_t i;
    /* What has no meaning in HTTP has none here. */
    CHECK(same(reference, request_key("GET", "/", "accept:  text/plain ", "", SECRET)));
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        onceflight_slice header = slice(bad[i]);
        EXPECT(ONCEFLIGHT_E_INVALID, onceflight_request_key("GET", "/", &header, 1, NULL, 0, SECRET, out.bytes));
    }
}

static void without_a_secret_one_is_drawn_for_the_process(void)
{
    digest drawn = request_key("GET", "/", "a: b", "", NULL);
    CHECK(same(drawn, request_key("GET", "/", "a: b", "", NULL)));
    CHECK(!same(drawn, request_key("GET", "/", "a: b", "", SECRET)));
}

static void lengths_no_memory_has_are_refused(void)
{
    onceflight_slice huge = {(const uint8_t *)"x", SIZE_MAX};
    digest out;
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_fingerprint(&huge, 1, SECRET, out.bytes));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_fingerprint(&huge, SIZE_MAX, SECRET, out.bytes));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_request_key("GET", "/", &huge, 1, NULL, 0, SECRET, out.bytes));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_request_key("GET", "/", &huge, SIZE_MAX, NULL, 0, SECRET, out.bytes));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_request_key("GET", "/", NULL, 0, huge.data, huge.len, SECRET, out.bytes));
}

static void a_request_key_is_a_key(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    digest key = request_key("GET", "/", "a: b", "", NULL);
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin(table, key.bytes, sizeof key.bytes, 0, &lead, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 200, BYTES("ok")));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin(table, key.bytes, sizeof key.bytes, 0, &lead, &response));
    onceflight_response_free(response);
    onceflight_table_free(table);
}

int main(void)
{
    RUN(a_fingerprint_depends_on_every_field_and_its_bounds);
    RUN(the_count_of_fields_is_part_of_a_fingerprint);
    RUN(a_request_key_depends_on_every_part);
    RUN(a_header_is_a_name_and_a_value);
    RUN(without_a_secret_one_is_drawn_for_the_process);
    RUN(lengths_no_memory_has_are_refused);
    RUN(a_request_key_is_a_key);
    return check_done("keys");
}
