// stdio on files and on standard input: lines, seeks, scans, temporary files, much data.
// guest: stdin="first line\nsecond 42 3.5\n\nlast without end" variants=static,dynamic
#include "guest.h"

int main(void)
{
    char line[100];
    int lines = 0, number = 0;
    double real = 0;
    while (fgets(line, sizeof(line), stdin)) {
        lines++;
        sscanf(line, "second %d %lf", &number, &real);
    }
    printf("%d lines, %d, %.2f, end %d\n", lines, number, real, feof(stdin) != 0);
    FILE *f = fopen("stdio.txt", "w+");
    for (int i = 0; i < 20000; i++)
        fprintf(f, "%d %x\n", i, i * i);
    printf("%ld\n", ftell(f));
    rewind(f);
    long sum = 0;
    int a;
    unsigned b;
    while (fscanf(f, "%d %x", &a, &b) == 2)
        sum += a ^ b;
    printf("%ld\n", sum);
    fseek(f, -12, SEEK_END);
    fgets(line, sizeof(line), f);
    fputs(line, stdout);
    fclose(f);
    f = fopen("stdio.txt", "r+");
    fseek(f, 100, SEEK_SET);
    fputs("OVERWRITTEN", f);
    fflush(f);
    fseek(f, 95, SEEK_SET);
    fread(line, 1, 30, f);
    printf("%#x\n", checksum(line, 30));
    fclose(f);
    unlink("stdio.txt");
    f = tmpfile();
    CHECK(f != NULL);
    fputs("temporary", f);
    rewind(f);
    CHECK(fgets(line, sizeof(line), f) && strcmp(line, "temporary") == 0);
    fprintf(stderr, "a word on the error output\n");
    return ferror(stdin);
}
