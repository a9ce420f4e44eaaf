// tests/e2e/relay.c: a TCP relay that lets so many bytes of a client pass, and then holds it.
//
//   relay PORT BYTES [FILE]   prints the port of 127.0.0.1 that it listens on, takes one connection, and
//                             relays it to PORT of 127.0.0.1; what passes, either way, is written to FILE
//
// So a test can look at what a client has done half way, however fast or slow the machine is. What
// the server says always passes. SIGUSR1: from now on everything passes.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t released;
static int copy = -1;

static void release(int number)
{
    released = number;
}

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

// Passes on at most `most` bytes. 0: one side has closed.
static size_t pass(int from, int to, size_t most)
{
    static char bytes[65536];
    const ssize_t got = read(from, bytes, most < sizeof bytes ? most : sizeof bytes);
    if (got < 0 && errno == EINTR) {
        return pass(from, to, most);
    }
    if (copy >= 0 && got > 0 && write(copy, bytes, (size_t)got) != got) {
        return 0;
    }
    for (ssize_t done = 0; done < got;) {
        const ssize_t sent = write(to, bytes + done, (size_t)(got - done));
        if (sent < 0 && errno != EINTR) {
            return 0;
        }
        done += sent > 0 ? sent : 0;
    }
    return got > 0 ? (size_t)got : 0;
}

static void relay(int client, int server, size_t held_after)
{
    for (size_t passed = 0;;) {
        const size_t room = released != 0         ? SIZE_MAX
                            : passed < held_after ? held_after - passed
                                                  : 0;
        struct pollfd fds[2] = {{.fd = room > 0 ? client : -1, .events = POLLIN},
                                {.fd = server, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0) {
            continue; // A signal.
        }
        if (fds[0].revents != 0) {
            const size_t bytes = pass(client, server, room);
            if (bytes == 0) {
                return;
            }
            passed += bytes;
        }
        if (fds[1].revents != 0 && pass(server, client, SIZE_MAX) == 0) {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof here;
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: relay PORT BYTES [FILE]\n");
        return EXIT_FAILURE;
    }
    if (argc == 4) {
        copy = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (copy < 0) {
            die(argv[3]);
        }
    }
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = release}, NULL);
    signal(SIGPIPE, SIG_IGN);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&here, &bytes) != 0) {
        die("listen");
    }
    printf("%u\n", ntohs(here.sin_port));
    fclose(stdout); // Whoever reads a pipe sees its end.
    const int client = accept(listener, NULL, NULL);
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    here.sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10));
    if (client < 0 || connect(server, (struct sockaddr *)&here, sizeof here) != 0) {
        die("connect");
    }
    relay(client, server, (size_t)strtoull(argv[2], NULL, 10));
    return EXIT_SUCCESS;
}
