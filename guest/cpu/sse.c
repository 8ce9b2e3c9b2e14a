// SSE2 to SSE4.2 and POPCNT: integer and packed operations, strings, CRC32.
// guest: cflags="-msse4.2 -mpopcnt"
#include "guest.h"
#include <nmmintrin.h>

static uint32_t hash(__m128i v) { return checksum(&v, sizeof(v)); }

int main(void)
{
    __m128i a = _mm_setr_epi8(1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12, 13, -14, 15, -16);
    __m128i b = _mm_setr_epi32(0x01020304, 0x7fffffff, -1, 0x00ff00ff);
    __m128d x = _mm_setr_pd(1.5, -2.25), y = _mm_setr_pd(3.0, 0.1);
    __m128 p = _mm_setr_ps(1, 2, 3, 4), q = _mm_setr_ps(0.1f, 10, -1, 1e-3f);
    printf("add %08x %08x %08x\n", hash(_mm_add_epi8(a, b)), hash(_mm_adds_epi16(a, b)), hash(_mm_subs_epu8(a, b)));
    printf("mul %08x %08x %08x\n", hash(_mm_mullo_epi16(a, b)), hash(_mm_madd_epi16(a, b)), hash(_mm_mul_epu32(a, b)));
    printf("cmp %08x %08x %d\n", hash(_mm_cmpgt_epi8(a, b)), hash(_mm_cmpeq_epi16(a, a)), _mm_movemask_epi8(a));
    printf("shift %08x %08x %08x\n", hash(_mm_slli_epi64(a, 7)), hash(_mm_srai_epi16(b, 3)), hash(_mm_srli_si128(a, 5)));
    printf("pack %08x %08x %08x\n", hash(_mm_packs_epi16(a, b)), hash(_mm_unpackhi_epi16(a, b)), hash(_mm_shuffle_epi32(b, 0x1b)));
    printf("ssse3 %08x %08x %08x %08x\n", hash(_mm_shuffle_epi8(a, b)), hash(_mm_abs_epi8(a)), hash(_mm_hadd_epi16(a, b)),
           hash(_mm_alignr_epi8(a, b, 5)));
    printf("sse4.1 %08x %08x %08x %d %d\n", hash(_mm_mullo_epi32(a, b)), hash(_mm_min_epi8(a, b)), hash(_mm_cvtepi8_epi32(a)),
           _mm_extract_epi32(b, 2), _mm_testz_si128(a, b));
    printf("sse4.1 %08x %08x\n", hash(_mm_blendv_epi8(a, b, a)), hash(_mm_packus_epi32(b, a)));
    printf("round %08x %08x\n", hash(_mm_castpd_si128(_mm_round_pd(x, 1))), hash(_mm_castps_si128(_mm_floor_ps(q))));
    printf("dot %08x\n", hash(_mm_castps_si128(_mm_dp_ps(p, q, 0xf1))));
    printf("pd %08x %08x %08x %08x\n", hash(_mm_castpd_si128(_mm_add_pd(x, y))), hash(_mm_castpd_si128(_mm_div_pd(x, y))),
           hash(_mm_castpd_si128(_mm_sqrt_pd(y))), hash(_mm_castpd_si128(_mm_cmplt_pd(x, y))));
    printf("ps %08x %08x %08x\n", hash(_mm_castps_si128(_mm_mul_ps(p, q))), hash(_mm_cvtps_epi32(q)), hash(_mm_cvttps_epi32(q)));
    printf("crc %08x %08x\n", _mm_crc32_u8(0, 'x'), _mm_crc32_u32(0x12345678, 0xdeadbeef));
    printf("popcnt %d\n", _mm_popcnt_u32(0xf0f0f0f1));
    __m128i text = _mm_loadu_si128((const __m128i *)"hello, emulator!"), set = _mm_loadu_si128((const __m128i *)"aeiou\0          ");
    printf("string %d %d %08x\n", _mm_cmpistri(set, text, _SIDD_CMP_EQUAL_ANY), _mm_cmpistrc(set, text, _SIDD_CMP_EQUAL_ANY),
           hash(_mm_cmpestrm(set, 5, text, 16, _SIDD_CMP_EQUAL_ANY | _SIDD_UNIT_MASK)));
    return 0;
}
