/* Payments by POST with an Idempotency-Key, on libmicrohttpd: a request that is sent again, whatever happened to the
 * first, is executed once. The records outlive the process, and servers that share a store share them.
 *
 *     server_microhttpd --port 8080 --store sqlite:payments.db &
 *     curl -i localhost:8080/payments -H 'Idempotency-Key: "4f2c81"' -d '100 cents to Ada'    (twice)
 *
 * | a request with the key | answer |
 * |-|-|
 * | the first | 201, the payment |
 * | again, done or in progress | the same, with Idempotent-Replayed: true; 409 if that takes too long |
 * | again, with another body | 422 |
 * | while the store is down | 503, and nothing was executed |
 *
 * Here only the body is kept, and whoever has the key has its response: a server for many callers begins its keys
 * with who is asking, and keeps the headers too. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <microhttpd.h>

#include "onceflight.h"

#define WAIT_MS 10000
#define MAX_BODY 65536
#define MAX_KEY 255
#define KEPT_MS (24 * 3600 * 1000)
#define BYTES(text) text, sizeof text - 1

static onceflight_table *table;

/* A request's body, as it comes. */
typedef struct {
    size_t len;
    int too_long;
    char data[MAX_BODY];
} upload;

/* The work that must not be done twice. It counts, so that this shows. */
static size_t pay(const upload *body, const onceflight_lead_info *info, char *receipt, size_t size)
{
    static int payments;
    int len = snprintf(receipt, size, "payment %d, attempt %u: %.*s\n", __atomic_add_fetch(&payments, 1, __ATOMIC_RELAXED),
                       (unsigned)info->attempt, (int)body->len, body->data);
    return len < (int)size ? (size_t)len : size - 1;
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const void *data, size_t len,
                              const char *name, const char *value)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(len, (void *)(uintptr_t)data, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result queued;
    if (response == NULL)
        return MHD_NO;
    if (name != NULL)
        MHD_add_response_header(response, name, value);
    queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *why)
{
    return answer(connection, status, why, strlen(why), status == 409 || status == 503 ? "Retry-After" : NULL, "1");
}

/* The heart of it: execute and keep the receipt, or give the one that is kept. */
static enum MHD_Result execute(struct MHD_Connection *connection, const char *key, const upload *body)
{
    const onceflight_slice payload = {(const uint8_t *)body->data, body->len};
    onceflight_request request = ONCEFLIGHT_REQUEST_INIT;
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    onceflight_response *kept;
    onceflight_lead lead;
    uint8_t fingerprint[16];
    enum MHD_Result queued;
    char *receipt;
    size_t len;
    int32_t outcome = onceflight_fingerprint(&payload, 1, NULL, fingerprint);
    if (outcome != ONCEFLIGHT_OK)
        return refuse(connection, 500, onceflight_strerror(outcome));
    request.key = (const uint8_t *)key;
    request.key_len = strlen(key);
    request.fingerprint = fingerprint;
    request.fingerprint_len = sizeof fingerprint;
    request.timeout_ms = WAIT_MS;
    outcome = onceflight_begin_request(table, &request, &lead, &kept);
    switch (outcome) {
    case ONCEFLIGHT_LEAD:
        receipt = (char *)malloc(MAX_BODY + 64);
        if (receipt == NULL || onceflight_lead_details(table, lead, &info) != ONCEFLIGHT_OK) {
            free(receipt);
            onceflight_cancel(table, lead);
            return refuse(connection, 503, "Nothing was executed: send it again.\n");
        }
        onceflight_response_free(info.checkpoint);
        len = pay(body, &info, receipt, MAX_BODY + 64);
        /* What can't be recorded was done all the same: the next attempt is told that there was one. */
        if (onceflight_complete(table, lead, 201, (const uint8_t *)receipt, len) != ONCEFLIGHT_OK)
            onceflight_abandon(table, lead);
        queued = answer(connection, 201, receipt, len, NULL, NULL);
        free(receipt);
        return queued;
    case ONCEFLIGHT_SHARED:
    case ONCEFLIGHT_REPLAYED:
        queued = answer(connection, (unsigned)onceflight_response_status(kept), onceflight_response_data(kept),
                        onceflight_response_len(kept), "Idempotent-Replayed", "true");
        onceflight_response_free(kept);
        return queued;
    case ONCEFLIGHT_E_MISMATCH:
        return refuse(connection, 422, "The key was used with another payload. Nothing was executed.\n");
    case ONCEFLIGHT_E_TIMEOUT:
        return refuse(connection, 409, "A request with this key is in progress.\n");
    case ONCEFLIGHT_E_UNKNOWN:
        return answer(connection, 409, BYTES("An earlier attempt was lost: find out what it did.\n"), NULL, NULL);
    default:
        return refuse(connection, 503, "Nothing was executed: send it again.\n");
    }
}

/* The key between its quotes; 0 if it can't be used. */
static int unquoted(const char *header, char key[MAX_KEY + 1])
{
    size_t len = strlen(header);
    if (len < 3 || len > MAX_KEY + 2 || header[0] != '"' || header[len - 1] != '"')
        return 0;
    memcpy(key, header + 1, len - 2);
    key[len - 2] = '\0';
    return strpbrk(key, "\"\\") == NULL; /* keys with escapes aren't taken here */
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **state)
{
    upload *body = (upload *)*state;
    const char *header;
    char key[MAX_KEY + 1];
    (void)context, (void)version;
    if (body == NULL) { /* the head alone; the body follows, in pieces */
        *state = body = (upload *)calloc(1, sizeof *body);
        return body == NULL ? MHD_NO : MHD_YES;
    }
    if (*size != 0) {
        body->too_long |= *size > sizeof body->data - body->len;
        if (!body->too_long) {
            memcpy(body->data + body->len, data, *size);
            body->len += *size;
        }
        *size = 0;
        return MHD_YES;
    }
    if (strcmp(url, "/payments") != 0 || strcmp(method, "POST") != 0)
        return refuse(connection, 404, "POST /payments\n");
    if (body->too_long)
        return refuse(connection, 413, "That is too long.\n");
    header = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Idempotency-Key");
    if (header == NULL || !unquoted(header, key))
        return refuse(connection, 400, "Idempotency-Key: \"...\", unique to this payment\n");
    return execute(connection, key, body);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode why)
{
    (void)context, (void)connection, (void)why;
    free(*state);
}

int main(int count, char **arguments)
{
    const char *store = "memory:";
    onceflight_options *options = onceflight_options_new();
    struct sockaddr_in loopback;
    unsigned long port = 8080;
    struct MHD_Daemon *daemon;
    sigset_t stops;
    int i, number;
    for (i = 1; i + 1 < count; i += 2) {
        if (strcmp(arguments[i], "--port") == 0)
            port = strtoul(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--store") == 0)
            store = arguments[i + 1];
        else
            break;
    }
    if (i != count || port > 65535) {
        fprintf(stderr, "usage: %s [--port N (0: any)] [--store URL]\n", arguments[0]);
        return 2;
    }
    if (onceflight_options_set_completed_ttl_ms(options, KEPT_MS) != ONCEFLIGHT_OK ||
        onceflight_table_open(store, options, &table) != ONCEFLIGHT_OK) {
        char detail[256];
        size_t size = sizeof detail;
        if (onceflight_last_error(detail, &size) == ONCEFLIGHT_OK)
            fprintf(stderr, "%s\n", detail);
        return 1;
    }
    onceflight_options_free(options);
    /* For every thread from here on: they come to sigwait. */
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stops, NULL);
    memset(&loopback, 0, sizeof loopback);
    loopback.sin_family = AF_INET;
    loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    loopback.sin_port = htons((uint16_t)port);
    daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0, NULL, NULL, on_request,
                              NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&loopback, MHD_OPTION_NOTIFY_COMPLETED,
                              on_completed, NULL, MHD_OPTION_END);
    if (daemon == NULL) {
        perror("listen");
        return 1;
    }
    printf("listening on 127.0.0.1:%u\n", (unsigned)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    sigwait(&stops, &number);
    MHD_stop_daemon(daemon);
    onceflight_table_free(table);
    return 0;
}
