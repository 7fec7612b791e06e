/* A server with a thread a connection: identical requests that arrive while one is being worked on wait for that
 * one's response, and the slow backend is asked once.
 *
 *     server_threads --port 8080 &
 *     for i in 1 2 3; do curl -s localhost:8080/report & done
 */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <pthread.h>

#include "http.h"
#include "onceflight.h"

#define WAIT_MS 30000

static settings options;
static onceflight_table *table;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static unsigned connections;

/* The heart of it: lead and do the work, or get the response of who leads. */
static void answer(int fd, const char *key, size_t key_len)
{
    char body[MAX_BODY];
    size_t len;
    onceflight_lead lead;
    onceflight_response *response;
    int32_t outcome = onceflight_begin(table, (const uint8_t *)key, key_len, WAIT_MS, &lead, &response);
    switch (outcome) {
    case ONCEFLIGHT_LEAD:
        len = slow_backend(key, key_len, options.delay_ms, body);
        onceflight_complete(table, lead, 200, (const uint8_t *)body, len);
        respond(fd, 200, "led", body, len);
        break;
    case ONCEFLIGHT_SHARED:
    case ONCEFLIGHT_REPLAYED:
        respond(fd, onceflight_response_status(response), outcome == ONCEFLIGHT_SHARED ? "shared" : "replayed",
                onceflight_response_data(response), onceflight_response_len(response));
        onceflight_response_free(response);
        break;
    default:
        respond(fd, outcome == ONCEFLIGHT_E_TIMEOUT ? 504 : 503, onceflight_err_name(outcome), "", 0);
    }
}

static void serve(int fd)
{
    char request[MAX_REQUEST + 1] = "";
    struct timeval patience = {2, 0};
    size_t len = 0, key_len;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (strstr(request, "\r\n\r\n") == NULL && len < MAX_REQUEST) {
        ssize_t got = recv(fd, request + len, MAX_REQUEST - len, 0);
        if (got <= 0)
            return;
        len += (size_t)got;
        request[len] = '\0';
    }
    key_len = request_key_len(request);
    if (key_len == 0)
        respond(fd, 400, "not asked", "", 0);
    else
        answer(fd, request, key_len);
}

static void *connection_main(void *argument)
{
    int fd = *(int *)argument;
    free(argument);
    serve(fd);
    close(fd);
    pthread_mutex_lock(&lock);
    if (--connections == 0)
        pthread_cond_signal(&idle);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void start_connection(int fd)
{
    pthread_t thread;
    int *argument = (int *)malloc(sizeof *argument);
    pthread_mutex_lock(&lock);
    connections++;
    pthread_mutex_unlock(&lock);
    if (argument == NULL)
        die("malloc");
    *argument = fd;
    if (pthread_create(&thread, NULL, connection_main, argument) != 0)
        die("pthread_create");
    pthread_detach(thread);
}

int main(int count, char **arguments)
{
    onceflight_options *settings_of_table = onceflight_options_new();
    struct pollfd watched[2];
    options = parse_arguments(count, arguments);
    if (onceflight_options_set_completed_ttl_ms(settings_of_table, options.window_ms) != ONCEFLIGHT_OK ||
        onceflight_table_new(settings_of_table, &table) != ONCEFLIGHT_OK) {
        fprintf(stderr, "the table could not be made\n");
        return 1;
    }
    onceflight_options_free(settings_of_table);

    watched[0].fd = stop_descriptor();
    watched[1].fd = listen_on(options.port);
    watched[0].events = watched[1].events = POLLIN;
    for (;;) {
        int fd;
        if (poll(watched, 2, -1) < 0 && errno != EINTR)
            die("poll");
        if (watched[0].revents != 0)
            break;
        fd = watched[1].revents != 0 ? accept(watched[1].fd, NULL, NULL) : -1;
        if (fd >= 0)
            start_connection(fd);
    }

    /* What was accepted is answered; the table goes last. */
    close(watched[1].fd);
    pthread_mutex_lock(&lock);
    while (connections > 0)
        pthread_cond_wait(&idle, &lock);
    pthread_mutex_unlock(&lock);
    onceflight_table_free(table);
    return 0;
}
