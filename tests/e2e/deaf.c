// tests/e2e/deaf.c: loaded before libzmq (LD_PRELOAD), it makes ZeroMQ forget who may connect.
//
// zmq_setsockopt does nothing for the ZAP domain and for its enforcement, so that nobody is asked, and
// everybody may connect who knows the server's key: as with a line that was lost.
#include <dlfcn.h>
#include <stddef.h>

int zmq_setsockopt(void *socket, int option, const void *value, size_t bytes);

int zmq_setsockopt(void *socket, int option, const void *value, size_t bytes)
{
    enum { ZAP_DOMAIN = 55, ZAP_ENFORCE_DOMAIN = 93 };
    int (*real)(void *, int, const void *, size_t) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "zmq_setsockopt");
    return option == ZAP_DOMAIN || option == ZAP_ENFORCE_DOMAIN ? 0
                                                                : real(socket, option, value, bytes);
}
