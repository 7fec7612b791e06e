/* onceflight through its C ABI: "cycle THREADS N" or "replay THREADS N BYTES"; prints nanoseconds an operation. */
#include "flight.h"
#include "onceflight.h"

static onceflight_table *table;
static unsigned char response[RESPONSE];
static const unsigned char hot[KEY] = "one hot key here";
static size_t size;

static void expect(int32_t got, int32_t wanted) {
    if (got != wanted) {
        fprintf(stderr, "%s where %s was expected\n", onceflight_err_name(got), onceflight_err_name(wanted));
        exit(1);
    }
}

static void cycle(struct worker *worker) {
    onceflight_response *none;
    onceflight_lead lead;
    long k;
    for (k = 0; k < worker->n; k++) {
        expect(onceflight_begin(table, worker->keys[k], KEY, 0, &lead, &none), ONCEFLIGHT_LEAD);
        expect(onceflight_complete(table, lead, 200, response, RESPONSE), ONCEFLIGHT_OK);
    }
}

static void replay(struct worker *worker) {
    onceflight_response *replayed;
    onceflight_lead lead;
    long k;
    for (k = 0; k < worker->n; k++) {
        expect(onceflight_begin(table, hot, KEY, 0, &lead, &replayed), ONCEFLIGHT_REPLAYED);
        if (onceflight_response_len(replayed) != size) exit(1);
        onceflight_response_free(replayed);
    }
}

int main(int count, char **arguments) {
    onceflight_options *options = onceflight_options_new();
    int replays = count > 4 && !strcmp(arguments[1], "replay");
    if (count < 4 || (!replays && strcmp(arguments[1], "cycle"))) {
        fprintf(stderr, "capi cycle THREADS N | replay THREADS N BYTES\n");
        return 2;
    }
    expect(onceflight_options_set_completed_ttl_ms(options, replays ? 3600000 : 0), ONCEFLIGHT_OK);
    expect(onceflight_table_new(options, &table), ONCEFLIGHT_OK);
    onceflight_options_free(options);
    if (replays) {
        unsigned char *body = (unsigned char *)calloc(1, size = strtoul(arguments[4], NULL, 10));
        onceflight_response *none;
        onceflight_lead lead;
        expect(onceflight_begin(table, hot, KEY, 0, &lead, &none), ONCEFLIGHT_LEAD);
        expect(onceflight_complete(table, lead, 200, body, size), ONCEFLIGHT_OK);
        free(body);
    }
    printf("%.2f\n", timed((unsigned)atoi(arguments[2]), atol(arguments[3]), replays ? replay : cycle));
    onceflight_table_free(table);
    return 0;
}
