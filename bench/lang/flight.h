/* Shared by the C and C++ programs: keys made before the clock starts, threads that start together. */
#ifndef FLIGHT_H
#define FLIGHT_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEY = 16, RESPONSE = 64, MOST = 64 };

struct worker {
    pthread_t thread;
    unsigned number;
    long n;
    unsigned char (*keys)[KEY];
    void (*work)(struct worker *);
};

static pthread_barrier_t together;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *worker_main(void *argument) {
    struct worker *worker = (struct worker *)argument;
    pthread_barrier_wait(&together);
    worker->work(worker);
    return NULL;
}

/* Nanoseconds an operation of n on each thread. */
static double timed(unsigned threads, long n, void (*work)(struct worker *)) {
    struct worker workers[MOST];
    double start;
    unsigned i;
    long k;
    if (threads < 1 || threads > MOST || n < 1) {
        fprintf(stderr, "1 to %d threads, and at least one operation\n", MOST);
        exit(2);
    }
    pthread_barrier_init(&together, NULL, threads + 1);
    for (i = 0; i < threads; i++) {
        workers[i].number = i;
        workers[i].n = n;
        workers[i].work = work;
        workers[i].keys = (unsigned char(*)[KEY])calloc((size_t)n, KEY);
        if (!workers[i].keys) {
            perror("calloc");
            exit(1);
        }
        for (k = 0; k < n; k++) {
            uint64_t number = (uint64_t)k;
            memcpy(workers[i].keys[k], &number, sizeof number);
            workers[i].keys[k][8] = (unsigned char)i;
        }
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i])) {
            fprintf(stderr, "no thread\n");
            exit(1);
        }
    }
    pthread_barrier_wait(&together);
    start = now();
    for (i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);
    start = now() - start;
    for (i = 0; i < threads; i++) free(workers[i].keys);
    return start / (double)n / threads;
}

#endif
