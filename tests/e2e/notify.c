// tests/e2e/notify.c: a service manager's ear, and what makes a loop hang.
//
//   notify listen NAME         prints each message that comes to the socket NAME (a path, or @NAME), its
//                              lines joined by ';', until it is ended
//   notify freeze PID SECONDS  stops the first thread of a process, and no other one, for so long
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static void listen_at(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const size_t bytes = strlen(name);
    if (bytes >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die(name);
    }
    memcpy(address.sun_path, name, bytes);
    if (name[0] == '@') {
        address.sun_path[0] = '\0';
    }
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    const socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, length) != 0) {
        die(name);
    }
    puts("listening");
    for (;;) {
        char message[4096];
        fflush(stdout);
        const ssize_t got = recv(fd, message, sizeof message - 1, 0);
        if (got < 0) {
            die("recv");
        }
        for (ssize_t i = 0; i < got; i++) {
            putchar(message[i] == '\n' ? ';' : message[i]);
        }
        putchar('\n');
    }
}

static void freeze(pid_t pid, unsigned seconds)
{
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0 ||
        ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0 || waitpid(pid, NULL, __WALL) != pid) {
        die("ptrace");
    }
    sleep(seconds);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "listen") == 0) {
        listen_at(argv[2]);
    } else if (argc == 4 && strcmp(argv[1], "freeze") == 0) {
        freeze((pid_t)strtol(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10));
        return EXIT_SUCCESS; // The thread goes on.
    }
    fprintf(stderr, "usage: notify listen NAME | notify freeze PID SECONDS\n");
    return 2;
}
