/* What a program in a pod does to reach a name: addresses of both families, one line each; or why there are none. */
#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list, *one;
    char text[INET6_ADDRSTRLEN];
    int error;

    if (argc != 2)
        return 2;
    error = getaddrinfo(argv[1], "443", &hints, &list);
    if (error) {
        printf("%s\n", gai_strerror(error));
        return 1;
    }
    for (one = list; one; one = one->ai_next) {
        if (getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
            printf("%s\n", text);
    }
    freeaddrinfo(list);
    return 0;
}
