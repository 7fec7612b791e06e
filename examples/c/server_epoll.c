/* A server on one thread and an event loop: nobody blocks, and identical requests still run once.
 *
 * begin_async answers at once or says PENDING; then the queue's descriptor becomes readable in the same epoll that
 * watches the sockets. Slow work goes to a worker thread together with the lead, and the connection that led waits for
 * the flight like every other: responses reach the loop by one road.
 *
 *     server_epoll --port 8080 &
 *     for i in 1 2 3; do curl -s localhost:8080/report & done
 */
#define _GNU_SOURCE /* accept4 */
#include <pthread.h>
#include <sys/epoll.h>

#include "http.h"
#include "onceflight.h"

#define WAIT_MS 30000
#define MAX_JOBS 4096 /* pointers to so many fit into a pipe, so that handing one over never blocks the loop */

typedef struct connection {
    int fd;
    int waiting;   /* for an event whose tag is this connection's address */
    size_t len, key_len;
    struct connection *next, **previous;
    char request[MAX_REQUEST + 1];
} connection;

typedef struct {
    onceflight_lead lead;
    size_t key_len;
    char key[MAX_REQUEST];
} job;

static settings options;
static onceflight_table *table;
static onceflight_queue *queue;
static int epoll, jobs[2];
static connection *connections;

/* The worker: does what it is handed until the pipe is closed. */
static void *worker_main(void *unused)
{
    job *next;
    char body[MAX_BODY];
    while (read(jobs[0], &next, sizeof next) == (ssize_t)sizeof next) {
        size_t len = slow_backend(next->key, next->key_len, options.delay_ms, body);
        onceflight_complete(table, next->lead, 200, (const uint8_t *)body, len);
        free(next);
    }
    return unused;
}

static job *job_for(onceflight_lead lead, const connection *from)
{
    job *work = (job *)malloc(sizeof *work);
    if (work == NULL)
        die("malloc");
    work->lead = lead;
    work->key_len = from->key_len;
    memcpy(work->key, from->request, from->key_len);
    return work;
}

static void hand_to_worker(job *work)
{
    if (write(jobs[1], &work, sizeof work) != (ssize_t)sizeof work)
        die("worker");
}

static void watch(int fd, uint32_t events, void *owner)
{
    struct epoll_event interest;
    memset(&interest, 0, sizeof interest);
    interest.events = events;
    interest.data.ptr = owner;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest) != 0)
        die("epoll_ctl");
}

static void accept_connection(int listener)
{
    connection *self;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    self = (connection *)calloc(1, sizeof *self);
    if (self == NULL)
        die("calloc");
    self->fd = fd;
    self->next = connections;
    self->previous = &connections;
    if (connections != NULL)
        connections->previous = &self->next;
    connections = self;
    watch(fd, EPOLLIN, self);
}

static void drop_connection(connection *self)
{
    if (self->waiting)
        onceflight_queue_leave(queue, (uint64_t)(uintptr_t)self);
    *self->previous = self->next;
    if (self->next != NULL)
        self->next->previous = self->previous;
    close(self->fd);
    free(self);
}

static void answer(connection *self, int32_t outcome, onceflight_response *response)
{
    if (response != NULL)
        respond(self->fd, onceflight_response_status(response), outcome == ONCEFLIGHT_SHARED ? "shared" : "replayed",
                onceflight_response_data(response), onceflight_response_len(response));
    else
        respond(self->fd, outcome == ONCEFLIGHT_E_TIMEOUT ? 504 : 503, onceflight_err_name(outcome), "", 0);
    onceflight_response_free(response);
    drop_connection(self);
}

static void begin(connection *self);

/* In line for its own flight first, so that the worker cannot be done before; then the work. The connection may be gone
 * by then, if the line was full. */
static void lead(connection *self, onceflight_lead token)
{
    job *work = job_for(token, self);
    begin(self);
    hand_to_worker(work);
}

/* Never called while this connection waits: a tag is in line once. */
static void begin(connection *self)
{
    onceflight_request request = ONCEFLIGHT_REQUEST_INIT;
    onceflight_lead token;
    onceflight_response *response;
    int32_t outcome;
    request.key = (const uint8_t *)self->request;
    request.key_len = self->key_len;
    request.timeout_ms = WAIT_MS;
    outcome = onceflight_begin_async(table, &request, queue, (uint64_t)(uintptr_t)self, &token, &response);
    self->waiting = outcome == ONCEFLIGHT_PENDING;
    if (outcome == ONCEFLIGHT_LEAD)
        lead(self, token);
    else if (outcome != ONCEFLIGHT_PENDING)
        answer(self, outcome, response);
}

static void on_event(const onceflight_event *event)
{
    connection *self = (connection *)(uintptr_t)event->tag;
    self->waiting = 0;
    if (event->outcome == ONCEFLIGHT_LEAD)
        lead(self, event->lead);
    else
        answer(self, event->outcome, event->response);
}

static void on_readable(connection *self)
{
    struct epoll_event quiet;
    ssize_t got = recv(self->fd, self->request + self->len, MAX_REQUEST - self->len, 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (got <= 0) {
        drop_connection(self);
        return;
    }
    self->len += (size_t)got;
    if (strstr(self->request, "\r\n\r\n") == NULL && self->len < MAX_REQUEST)
        return;
    self->key_len = request_key_len(self->request);
    if (self->key_len == 0) {
        respond(self->fd, 400, "not asked", "", 0);
        drop_connection(self);
        return;
    }
    /* From here only its end is of interest, which epoll tells unasked. */
    memset(&quiet, 0, sizeof quiet);
    quiet.data.ptr = self;
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, self->fd, &quiet) != 0)
        die("epoll_ctl");
    begin(self);
}

/* Those who haven't asked yet are let go; those who wait are answered first. */
static void drop_who_has_not_asked(void)
{
    connection *self = connections, *next;
    for (; self != NULL; self = next) {
        next = self->next;
        if (!self->waiting)
            drop_connection(self);
    }
}

static void loop(int stop, int listener)
{
    int stopping = 0;
    watch(stop, EPOLLIN, &stop_pipe);
    watch(listener, EPOLLIN, &connections);
    watch(onceflight_queue_fd(queue), EPOLLIN, &queue);
    while (!stopping || connections != NULL) {
        struct epoll_event ready; /* one at a time: handling one may free what another in the batch points to */
        onceflight_event event = ONCEFLIGHT_EVENT_INIT;
        int count = epoll_wait(epoll, &ready, 1, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        if (count <= 0)
            continue;
        if (ready.data.ptr == &stop_pipe) {
            epoll_ctl(epoll, EPOLL_CTL_DEL, stop, NULL);
            close(listener);
            stopping = 1;
            drop_who_has_not_asked();
        } else if (ready.data.ptr == &connections) {
            accept_connection(listener);
        } else if (ready.data.ptr == &queue) {
            if (onceflight_queue_next(queue, 0, &event) == ONCEFLIGHT_OK)
                on_event(&event);
        } else if ((ready.events & EPOLLIN) != 0) {
            on_readable((connection *)ready.data.ptr);
        } else {
            drop_connection((connection *)ready.data.ptr);
        }
    }
}

int main(int count, char **arguments)
{
    onceflight_options *settings_of_table = onceflight_options_new();
    pthread_t worker;
    options = parse_arguments(count, arguments);
    if (onceflight_options_set_completed_ttl_ms(settings_of_table, options.window_ms) != ONCEFLIGHT_OK ||
        onceflight_options_set_max_in_flight(settings_of_table, MAX_JOBS) != ONCEFLIGHT_OK ||
        onceflight_table_new(settings_of_table, &table) != ONCEFLIGHT_OK ||
        onceflight_queue_new(&queue) != ONCEFLIGHT_OK) {
        fprintf(stderr, "the table could not be made\n");
        return 1;
    }
    onceflight_options_free(settings_of_table);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || pipe(jobs) != 0 || pthread_create(&worker, NULL, worker_main, NULL) != 0)
        die("start");

    loop(stop_descriptor(), listen_on(options.port));

    close(jobs[1]);
    pthread_join(worker, NULL);
    close(jobs[0]);
    close(epoll);
    onceflight_queue_free(queue);
    onceflight_table_free(table);
    return 0;
}
