/* The ceiling: a C server on one epoll that reads frames, tells getdir from other requests by a
 * byte search, and answers with bytes prepared before. It parses no JSON: what is above its row is
 * the price of a language and of checking what was said.
 *
 * epoll_server PING_REPLY_FILE GETDIR_REPLY_FILE; prints "listening on 127.0.0.1:PORT" to stderr.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 4, READ_SIZE = 65536, OUT_SIZE = 1 << 22, EVENTS = 512, FDS = 20000 };

static struct { char *data; size_t length; } partial[FDS];
static char ping[READ_SIZE], getdir[READ_SIZE], in[2 * READ_SIZE], out[OUT_SIZE];
static size_t ping_length, getdir_length;

static void die(const char *what) {
    perror(what);
    exit(2);
}

/* Load a reply with its header in front. */
static size_t load(const char *path, char *reply) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    size_t n = fread(reply + HEADER, 1, READ_SIZE - HEADER, file);
    fclose(file);
    uint32_t header = htonl((uint32_t)n);
    memcpy(reply, &header, HEADER);
    return n + HEADER;
}

static size_t answer(const char *payload, size_t length, size_t at) {
    int page = memmem(payload, length, "\"getdir\"", 8) != NULL;
    size_t n = page ? getdir_length : ping_length;
    if (at + n > OUT_SIZE) die("out of room for replies");
    memcpy(out + at, page ? getdir : ping, n);
    return at + n;
}

static void send_all(int fd, size_t length) {
    for (size_t sent = 0; sent < length;) {
        ssize_t n = send(fd, out + sent, length - sent, MSG_NOSIGNAL);
        if (n < 0) return;   /* blocking: only a lost peer fails, and its recv will say so */
        sent += (size_t)n;
    }
}

static void serve(int fd) {
    size_t have = partial[fd].length;
    if (have) memcpy(in, partial[fd].data, have);
    ssize_t n = recv(fd, in + have, READ_SIZE, 0);
    if (n <= 0) {
        partial[fd].length = 0;
        close(fd);
        return;
    }
    size_t end = have + (size_t)n, at = 0, replies = 0;
    while (end - at >= HEADER) {
        uint32_t length;
        memcpy(&length, in + at, HEADER);
        length = ntohl(length);
        if (length > READ_SIZE - HEADER) die("frame too large");
        if (end - at < HEADER + length) break;
        replies = answer(in + at + HEADER, length, replies);
        at += HEADER + length;
    }
    if ((partial[fd].length = end - at)) {
        if (!partial[fd].data && !(partial[fd].data = malloc(READ_SIZE))) die("malloc");
        memcpy(partial[fd].data, in + at, end - at);
    }
    send_all(fd, replies);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: epoll_server PING_REPLY_FILE GETDIR_REPLY_FILE\n");
        return 2;
    }
    ping_length = load(argv[1], ping);
    getdir_length = load(argv[2], getdir);
    struct rlimit files = {FDS, FDS};
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, poller = epoll_create1(0);
    if (bind(listener, (void *)&address, size) || listen(listener, 4096)) die("listen");
    getsockname(listener, (void *)&address, &size);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event)) die("epoll");
    fprintf(stderr, "epoll_server: listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                serve(fd);
                continue;
            }
            if ((fd = accept(listener, NULL, NULL)) < 0 || fd >= FDS) die("accept");
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            event.data.fd = fd;
            if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
        }
    }
}
