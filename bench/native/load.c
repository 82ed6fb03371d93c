/* The load generator: length-prefixed JSON-RPC over TCP, from one thread and one epoll.
 *
 * Each of C connections keeps D requests in flight (closed loop), or with --pace sends one request
 * every U microseconds whether or not the last was answered (open loop, for latency probes).
 * The bytes of a request are fixed; --counter names the offset of eight digits that count up.
 * Every reply is checked: the same bytes as --expect, or, without it, a result and no error.
 * The CPU clocks of --cpu-of processes are read by this process at both ends of the measured
 * window, so that starting and stopping are nobody's cost.
 *
 * One JSON object on stdout. Exit 1 when a reply was wrong or a connection was lost.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 4, PAYLOAD_MAX = 65536, EVENTS = 1024, WATCHED_MAX = 8, SUB_BITS = 5 };
enum { SUB = 1 << SUB_BITS, BUCKETS = 64 * SUB };

struct connection {
    int fd;
    unsigned in_flight;
    unsigned oldest;         /* index in sent_at of the request that is answered next */
    uint64_t *sent_at;       /* a ring of `depth` times, ns */
    char *in;                /* bytes received, not yet a whole frame */
    size_t in_length, in_size;
    char *out;               /* requests not yet taken by the kernel */
    size_t out_start, out_length;
};

static struct {
    int port, connections, depth, hold;
    double seconds, warmup;
    uint64_t count, pace_ns, counter;
    long counter_offset;
    pid_t watched[WATCHED_MAX];
    int watched_count;
    char *request, *expected;
    size_t request_length, expected_length;
} option = {.connections = 1, .depth = 1, .seconds = 1, .warmup = 0.2, .counter_offset = -1};

static int epoll_fd;
static uint64_t done, wrong, bytes_in, started_total, in_flight_total;
static uint64_t latency[BUCKETS], latency_max;
static int sending = 1;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t) < 0) die("clock_gettime");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static uint64_t watched_cpu_ns(void) {
    uint64_t sum = 0;
    for (int i = 0; i < option.watched_count; i++) {
        clockid_t clock;
        if (clock_getcpuclockid(option.watched[i], &clock)) die("clock_getcpuclockid");
        sum += clock_ns(clock);
    }
    return sum;
}

/* A log-linear histogram: 32 steps for each power of two, so at most 3 % wide. */
static int bucket_of(uint64_t value) {
    if (value < SUB) return (int)value;
    int shift = 63 - __builtin_clzll(value) - SUB_BITS;
    return (shift + 1) * SUB + (int)((value >> shift) - SUB);
}

static uint64_t bucket_top(int bucket) {
    if (bucket < SUB) return (uint64_t)bucket;
    int shift = bucket / SUB - 1;
    return ((uint64_t)(bucket % SUB + SUB + 1) << shift) - 1;
}

static double percentile_us(double share) {
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < BUCKETS; i++) total += latency[i];
    for (int i = 0; i < BUCKETS; i++) {
        seen += latency[i];
        if (seen && (double)seen >= share * (double)total) {
            uint64_t top = bucket_top(i);
            return (double)(top < latency_max ? top : latency_max) / 1000;
        }
    }
    return 0;
}

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    char *data = malloc(PAYLOAD_MAX + 1);
    if (!data) die("malloc");
    *length = fread(data, 1, PAYLOAD_MAX + 1, file);
    if (*length > PAYLOAD_MAX) die("file too long");
    fclose(file);
    return data;
}

static void interest(struct connection *c, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) < 0) die("epoll_ctl");
}

static void flush_out(struct connection *c) {
    while (c->out_start < c->out_length) {
        ssize_t n = send(c->fd, c->out + c->out_start, c->out_length - c->out_start, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN) die("send");
            interest(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            return;
        }
        c->out_start += (size_t)n;
    }
    c->out_start = c->out_length = 0;
}

static void queue_request(struct connection *c, uint64_t now) {
    char *place = c->out + c->out_length;
    uint32_t header = htonl((uint32_t)option.request_length);
    memcpy(place, &header, HEADER);
    memcpy(place + HEADER, option.request, option.request_length);
    if (option.counter_offset >= 0) {
        char digits[16];
        snprintf(digits, sizeof digits, "%08u", (unsigned)(option.counter++ % 100000000u));
        memcpy(place + HEADER + option.counter_offset, digits, 8);
    }
    c->out_length += HEADER + option.request_length;
    c->sent_at[(c->oldest + c->in_flight++) % (unsigned)option.depth] = now;
    started_total++;
    in_flight_total++;
}

/* Fill the pipeline again. All requests due leave in one send. */
static void refill(struct connection *c) {
    if (!sending || option.pace_ns || c->out_length) return;
    uint64_t now = now_ns();
    while (c->in_flight < (unsigned)option.depth && (!option.count || started_total < option.count))
        queue_request(c, now);
    flush_out(c);
}

static void check_reply(const char *payload, size_t length) {
    int good;
    if (option.expected)
        good = length == option.expected_length && !memcmp(payload, option.expected, length);
    else
        good = memmem(payload, length, "\"result\"", 8) && !memmem(payload, length, "\"error\"", 7);
    if (!good && !wrong++)
        fprintf(stderr, "load: wrong reply: %.*s\n", (int)(length < 300 ? length : 300), payload);
}

static void take_reply(struct connection *c, const char *payload, size_t length, uint64_t now) {
    if (!c->in_flight) die("a reply that nobody asked for");
    uint64_t took = now - c->sent_at[c->oldest];
    c->oldest = (c->oldest + 1) % (unsigned)option.depth;
    c->in_flight--;
    in_flight_total--;
    check_reply(payload, length);
    latency[bucket_of(took)]++;
    if (took > latency_max) latency_max = took;
    done++;
    bytes_in += HEADER + length;
}

/* Read once; take every whole frame. Returns how many. */
static int receive(struct connection *c) {
    if (c->in_size - c->in_length < 4096 && c->in_size <= HEADER + PAYLOAD_MAX) {
        c->in_size = c->in_size ? c->in_size * 4 : 8192;
        if (!(c->in = realloc(c->in, c->in_size))) die("realloc");
    }
    ssize_t n = recv(c->fd, c->in + c->in_length, c->in_size - c->in_length, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) die(n ? "recv" : "the server closed a connection");
    c->in_length += (size_t)n;
    uint64_t now = now_ns();
    size_t at = 0;
    int frames = 0;
    while (c->in_length - at >= HEADER) {
        uint32_t length;
        memcpy(&length, c->in + at, HEADER);
        length = ntohl(length);
        if (length > PAYLOAD_MAX) die("a frame over 64 KiB");
        if (c->in_length - at < HEADER + length) break;
        take_reply(c, c->in + at + HEADER, length, now);
        at += HEADER + length;
        frames++;
    }
    if (at) memmove(c->in, c->in + at, c->in_length -= at);
    return frames;
}

static void open_connection(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)option.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    if (connect(c->fd, (void *)&address, sizeof address) < 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->sent_at = calloc((size_t)option.depth, sizeof *c->sent_at);
    c->out = malloc((size_t)option.depth * (HEADER + option.request_length));
    if (!c->sent_at || !c->out) die("malloc");
}

/* One request on each connection: it is a client in good standing from here on. */
static void prime(struct connection *all) {
    for (int i = 0; i < option.connections; i++) {
        struct connection *c = &all[i];
        open_connection(c);
        queue_request(c, now_ns());
        flush_out(c);
        while (!receive(c)) {}
        if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0) die("fcntl");
        interest(c, EPOLLIN, EPOLL_CTL_ADD);
    }
}

static void forget_figures(void) {
    memset(latency, 0, sizeof latency);
    done = latency_max = bytes_in = 0;
}

static void on_pace(int timer, struct connection *all) {
    uint64_t expirations;
    if (read(timer, &expirations, sizeof expirations) < 0 || !sending) return;
    uint64_t now = now_ns();
    for (int i = 0; i < option.connections; i++) {
        if (all[i].in_flight >= (unsigned)option.depth || all[i].out_length) continue;
        queue_request(&all[i], now);
        flush_out(&all[i]);
    }
}

static int pace_timer(void) {
    if (!option.pace_ns) return -1;
    struct timespec period = {.tv_sec = (time_t)(option.pace_ns / 1000000000u),
                              .tv_nsec = (long)(option.pace_ns % 1000000000u)};
    struct itimerspec spec = {.it_interval = period, .it_value = period};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (timer < 0 || timerfd_settime(timer, 0, &spec, NULL) < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &event) < 0)
        die("timerfd");
    return timer;
}

/* Run until `until` (ns), or until `count` requests are answered, or, when no more are sent, until
 * none is in flight: a connection closed on an unread reply would be a reset, and an error there. */
static void run(struct connection *all, int timer, uint64_t until) {
    static struct epoll_event events[EVENTS];
    uint64_t now;
    while ((now = now_ns()) < until && !(option.count && done >= option.count)) {
        if (!sending && !in_flight_total) return;
        int wait_ms = (int)((until - now) / 1000000u) + 1;
        int n = epoll_wait(epoll_fd, events, EVENTS, wait_ms);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                on_pace(timer, all);
                continue;
            }
            if (events[i].events & EPOLLOUT) {
                interest(c, EPOLLIN, EPOLL_CTL_MOD);
                flush_out(c);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT && receive(c)) refill(c);
        }
    }
}

static void hold(void) {
    char byte;
    printf("held\n");
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {}
    exit(0);
}

static void parse_options(int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'},    {"connections", 1, 0, 'c'}, {"depth", 1, 0, 'd'},
        {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'w'},      {"count", 1, 0, 'n'},
        {"pace-us", 1, 0, 'u'}, {"request", 1, 0, 'r'},     {"expect", 1, 0, 'e'},
        {"counter", 1, 0, 'o'}, {"counter-from", 1, 0, 'f'}, {"cpu-of", 1, 0, 'x'},
        {"hold", 0, 0, 'h'},    {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (o) {
        case 'p': option.port = atoi(optarg); break;
        case 'c': option.connections = atoi(optarg); break;
        case 'd': option.depth = atoi(optarg); break;
        case 's': option.seconds = atof(optarg); break;
        case 'w': option.warmup = atof(optarg); break;
        case 'n': option.count = strtoull(optarg, NULL, 10); break;
        case 'u': option.pace_ns = strtoull(optarg, NULL, 10) * 1000; break;
        case 'r': option.request = read_file(optarg, &option.request_length); break;
        case 'e': option.expected = read_file(optarg, &option.expected_length); break;
        case 'o': option.counter_offset = atol(optarg); break;
        case 'f': option.counter = strtoull(optarg, NULL, 10); break;
        case 'x':
            if (option.watched_count < WATCHED_MAX)
                option.watched[option.watched_count++] = atoi(optarg);
            break;
        case 'h': option.hold = 1; break;
        default: exit(2);
    }
    if (!option.port || !option.request || option.connections < 1 || option.depth < 1) {
        fprintf(stderr, "load: --port and --request are needed\n");
        exit(2);
    }
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if ((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    struct connection *all = calloc((size_t)option.connections, sizeof *all);
    if (!all) die("calloc");
    prime(all);
    if (option.hold) hold();
    forget_figures();
    started_total = 0;
    int timer = pace_timer();
    uint64_t begin = now_ns(), cpu = watched_cpu_ns(), own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (!option.count && option.warmup > 0) {
        for (int i = 0; i < option.connections; i++) refill(&all[i]);
        run(all, timer, begin + (uint64_t)(option.warmup * 1e9));
        forget_figures();
        begin = now_ns(), cpu = watched_cpu_ns(), own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    } else {
        for (int i = 0; i < option.connections; i++) refill(&all[i]);
    }
    run(all, timer, begin + (uint64_t)(option.seconds * 1e9));
    uint64_t end = now_ns();
    cpu = watched_cpu_ns() - cpu;
    own = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own;
    double seconds = (double)(end - begin) / 1e9;
    int whole = !option.count || done >= option.count;
    printf("{\"requests\": %llu, \"seconds\": %.6f, \"wrong\": %llu, \"whole\": %s, "
           "\"bytes_in\": %llu, \"server_cpu_ns\": %llu, \"load_cpu_ns\": %llu, "
           "\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"max_us\": %.1f}\n",
           (unsigned long long)done, seconds, (unsigned long long)wrong, whole ? "true" : "false",
           (unsigned long long)bytes_in, (unsigned long long)cpu, (unsigned long long)own,
           percentile_us(0.5), percentile_us(0.9), percentile_us(0.99), percentile_us(0.999),
           (double)latency_max / 1000);
    sending = 0;
    run(all, timer, now_ns() + 1000000000u);
    return wrong || !whole;
}
