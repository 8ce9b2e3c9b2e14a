// Arguments and environment arrive byte for byte, in order, on an aligned stack.
// guest: args="one 'two words' '' --four=4" env="GUEST=present EMPTY= SPACES='a b'"
// guest: variants=static,dynamic
#include "guest.h"

extern char **environ;

int main(int argc, char **argv, char **envp)
{
    printf("argc %d\n", argc);
    for (int i = 1; i < argc; i++)
        printf("argv[%d] '%s'\n", i, argv[i]);
    CHECK(argv[argc] == NULL);
    CHECK(envp == environ);
    CHECK(envp == argv + argc + 1);
    for (char **p = envp; *p; p++)
        printf("env '%s'\n", *p);
    CHECK(getenv("GUEST") != NULL && getenv("ABSENT") == NULL);
    /* The strings lie above the vectors in the order they have there. */
    for (int i = 1; i < argc; i++)
        CHECK(argv[i] == argv[i - 1] + strlen(argv[i - 1]) + 1);
    CHECK(envp[0] == argv[argc - 1] + strlen(argv[argc - 1]) + 1);
    return argc;
}
