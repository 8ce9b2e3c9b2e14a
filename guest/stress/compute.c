// A page of algorithms: primes, matrices, SHA-256, LZ-like search, big numbers; one checksum each.
#include "guest.h"

static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha256(const unsigned char *data, size_t size, uint32_t h[8])
{
    static uint32_t k[64];
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    if (!k[0]) { /* cube roots of primes, by integers */
        int n = 0;
        for (unsigned p = 2; n < 64; p++) {
            bool prime = true;
            for (unsigned d = 2; d * d <= p; d++)
                prime &= p % d != 0;
            if (!prime)
                continue;
            long double root = 1;
            for (int i = 0; i < 60; i++)
                root = (2 * root + p / (root * root)) / 3;
            k[n++] = (uint32_t)((root - (int)root) * 4294967296.0L);
        }
    }
    memcpy(h, start, sizeof(start));
    unsigned char block[64];
    size_t total = (size + 8) / 64 + 1;
    for (size_t b = 0; b < total; b++) {
        for (int i = 0; i < 64; i++) {
            size_t at = b * 64 + i;
            block[i] = at < size ? data[at] : at == size ? 0x80 : at >= total * 64 - 8 ? (uint64_t)size * 8 >> 8 * (total * 64 - 1 - at) : 0;
        }
        uint32_t w[64], v[8];
        for (int i = 0; i < 16; i++)
            w[i] = block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
        for (int i = 16; i < 64; i++)
            w[i] = (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10) + w[i - 7] +
                   (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 16];
        memcpy(v, h, sizeof(v));
        for (int i = 0; i < 64; i++) {
            uint32_t t1 = v[7] + (rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            uint32_t t2 = (rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            for (int j = 7; j > 0; j--)
                v[j] = v[j - 1];
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++)
            h[i] += v[i];
    }
}

int main(void)
{
    uint32_t h[8];
    sha256((const unsigned char *)"abc", 3, h);
    printf("%08x%08x...%08x\n", h[0], h[1], h[7]);
    static unsigned char data[100000];
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = next_random(&state) >> 5;
    sha256(data, sizeof(data), h);
    printf("%08x\n", h[0]);

    static bool composite[100000];
    int primes = 0;
    for (int i = 2; i < 100000; i++) {
        if (composite[i])
            continue;
        primes++;
        for (int j = 2 * i; j < 100000; j += i)
            composite[j] = true;
    }
    printf("%d primes\n", primes);

    static double a[40][40], b[40][40], c[40][40];
    for (int i = 0; i < 40; i++)
        for (int j = 0; j < 40; j++)
            a[i][j] = i + j / 8.0, b[i][j] = i - j / 4.0;
    for (int i = 0; i < 40; i++)
        for (int j = 0; j < 40; j++)
            for (int k = 0; k < 40; k++)
                c[i][j] += a[i][k] * b[k][j];
    printf("%.6f %#x\n", c[17][23], checksum(c, sizeof(c)));

    static uint32_t digits[300] = {1};
    for (int n = 2; n <= 500; n++) {
        uint64_t carry = 0;
        for (int i = 0; i < 300; i++) {
            carry += (uint64_t)digits[i] * n;
            digits[i] = carry % 1000000000;
            carry /= 1000000000;
        }
    }
    printf("500! %#x\n", checksum(digits, sizeof(digits)));
    return 0;
}
