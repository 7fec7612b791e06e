/* Faults made on purpose: a checker that doesn't report them isn't there. Not a test; run.sh expects each to be caught. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

static onceflight_response *kept_response(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    onceflight_lead lead = lead_of(table, "key");
    onceflight_response *response = NULL;
    REQUIRE(onceflight_complete(table, lead, 0, BYTES("0123456789")) == ONCEFLIGHT_OK);
    REQUIRE(onceflight_begin(table, BYTES("key"), 0, &lead, &response) == ONCEFLIGHT_REPLAYED);
    onceflight_table_free(table);
    return response;
}

/* Memory of the library, read past its end. */
static int overflow(void)
{
    onceflight_response *response = kept_response();
    volatile uint8_t byte = onceflight_response_data(response)[onceflight_response_len(response) + 16];
    onceflight_response_free(response);
    (void)byte;
    return 0;
}

static int leak(void)
{
    onceflight_response *response = kept_response();
    response = NULL;
    return response == NULL ? 0 : 1;
}

static volatile int raced;

static void *race_main(void *unused)
{
    int i;
    for (i = 0; i < 1000; i++)
        raced++;
    return unused;
}

static int race(void)
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, race_main, NULL) == 0);
    race_main(NULL);
    return pthread_join(thread, NULL);
}

int main(int count, char **arguments)
{
    const char *fault = count == 2 ? arguments[1] : "";
    return strcmp(fault, "overflow") == 0 ? overflow()
           : strcmp(fault, "leak") == 0   ? leak()
           : strcmp(fault, "race") == 0   ? race()
                                          : 2;
}
