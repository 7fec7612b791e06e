/* The little HTTP the example servers need, so that they show onceflight and not sockets: one GET a connection,
 * on loopback. Not a server to put on a network. */
#ifndef EXAMPLE_HTTP_H
#define EXAMPLE_HTTP_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUEST 4096
#define MAX_BODY 4608 /* a request's path and some words */

typedef struct {
    unsigned port, delay_ms, window_ms;
} settings;

static inline settings parse_arguments(int count, char **arguments)
{
    settings result = {8080, 1000, 0};
    int i;
    for (i = 1; i < count; i++) {
        unsigned *option = strcmp(arguments[i], "--port") == 0        ? &result.port
                           : strcmp(arguments[i], "--delay-ms") == 0  ? &result.delay_ms
                           : strcmp(arguments[i], "--window-ms") == 0 ? &result.window_ms
                                                                      : NULL;
        char *end = NULL;
        if (option == NULL || ++i == count || (*option = (unsigned)strtoul(arguments[i], &end, 10), *end != '\0')) {
            fprintf(stderr, "usage: %s [--port N (0: any)] [--delay-ms N] [--window-ms N]\n", arguments[0]);
            exit(2);
        }
    }
    return result;
}

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Listens on loopback and says where. */
static inline int listen_on(unsigned port)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)port);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        die("listen");
    printf("listening on 127.0.0.1:%u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static int stop_pipe[2];

static inline void on_stop_signal(int number)
{
    ssize_t written = write(stop_pipe[1], "", 1);
    (void)written;
    (void)number;
}

/* A descriptor that becomes readable on SIGTERM or SIGINT. */
static inline int stop_descriptor(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_stop_signal;
    action.sa_flags = SA_RESTART;
    if (pipe(stop_pipe) != 0 || sigaction(SIGTERM, &action, NULL) != 0 || sigaction(SIGINT, &action, NULL) != 0)
        die("signals");
    return stop_pipe[0];
}

/* "GET /path": the part of the request line that says what is asked for, and here the key. 0 if it isn't one. */
static inline size_t request_key_len(const char *request)
{
    const char *path = strncmp(request, "GET /", 5) == 0 ? request + 4 : NULL;
    const char *end = path == NULL ? NULL : strpbrk(path, " \r\n");
    return end != NULL && strncmp(end, " HTTP/1.", 8) == 0 ? (size_t)(end - request) : 0;
}

/* The answer goes out in one piece: it is smaller than any socket's buffer. */
static inline void respond(int fd, int status, const char *how, const void *body, size_t len)
{
    char message[MAX_BODY + 256];
    int head;
    if (len > MAX_BODY)
        len = MAX_BODY;
    head = snprintf(message, 256, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nConnection: close\r\nOnceflight: %s\r\n\r\n",
                    status, status == 200 ? "OK" : "Error", len, how);
    memcpy(message + head, body, len);
    if (send(fd, message, (size_t)head + len, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
        perror("send");
}

/* The slow backend. It counts how often it was asked, so that sharing shows. */
static inline size_t slow_backend(const char *request, size_t len, unsigned delay_ms, char body[MAX_BODY])
{
    static int runs;
    struct timespec delay;
    delay.tv_sec = (time_t)(delay_ms / 1000);
    delay.tv_nsec = (long)(delay_ms % 1000) * 1000000;
    while (nanosleep(&delay, &delay) != 0 && errno == EINTR) {
    }
    return (size_t)snprintf(body, MAX_BODY, "run %d of %.*s\n", __atomic_add_fetch(&runs, 1, __ATOMIC_RELAXED), (int)len,
                            request);
}

#endif
