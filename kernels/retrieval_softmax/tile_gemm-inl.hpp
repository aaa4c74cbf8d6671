// SPDX-License-Identifier: Apache-2.0
// The matrix product of a tile, and exp. A product of a library packs its operands at each call; here
// they are already in the order in which they are read, and a block never leaves L1.
#if defined(BELFRY_RETRIEVAL_SOFTMAX_TILE_GEMM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef BELFRY_RETRIEVAL_SOFTMAX_TILE_GEMM_INL
#undef BELFRY_RETRIEVAL_SOFTMAX_TILE_GEMM_INL
#else
#define BELFRY_RETRIEVAL_SOFTMAX_TILE_GEMM_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, 16>;
using VF = hn::Vec<DF>;
constexpr DF kFloats;

/// Operands of c[m][n] (+)= sum_k a[m * a_row + k * a_step] b[k * b_pitch + n].
struct TileProduct {
  const float* a;
  std::int64_t a_row, a_step;
  const float* b;
  std::int64_t b_pitch;
  float* c;
  std::int64_t c_pitch;
  bool accumulate;
};

/// One row of accumulators. Named members, not an array: arrays of registers get spilled.
template <int kVectors>
struct AccumulatorRow {
  VF v0, v1, v2, v3;

  HWY_INLINE void zero() { v0 = v1 = v2 = v3 = hn::Zero(kFloats); }
  HWY_INLINE void load(const float* from) {
    zero();
    v0 = hn::LoadU(kFloats, from);
    if constexpr (kVectors > 1) v1 = hn::LoadU(kFloats, from + hn::Lanes(kFloats));
    if constexpr (kVectors > 2) v2 = hn::LoadU(kFloats, from + 2 * hn::Lanes(kFloats));
    if constexpr (kVectors > 3) v3 = hn::LoadU(kFloats, from + 3 * hn::Lanes(kFloats));
  }
  HWY_INLINE void begin(const TileProduct& p, std::int64_t row) {
    p.accumulate ? load(p.c + row * p.c_pitch) : zero();
  }
  HWY_INLINE void multiply_add(VF a, const AccumulatorRow& b) {
    v0 = hn::MulAdd(a, b.v0, v0);
    if constexpr (kVectors > 1) v1 = hn::MulAdd(a, b.v1, v1);
    if constexpr (kVectors > 2) v2 = hn::MulAdd(a, b.v2, v2);
    if constexpr (kVectors > 3) v3 = hn::MulAdd(a, b.v3, v3);
  }
  HWY_INLINE void store(float* to) const {
    hn::StoreU(v0, kFloats, to);
    if constexpr (kVectors > 1) hn::StoreU(v1, kFloats, to + hn::Lanes(kFloats));
    if constexpr (kVectors > 2) hn::StoreU(v2, kFloats, to + 2 * hn::Lanes(kFloats));
    if constexpr (kVectors > 3) hn::StoreU(v3, kFloats, to + 3 * hn::Lanes(kFloats));
  }
};

/// kRows x kVectors registers of c; each element is one chain of fused multiply-adds over k.
template <int kRows, int kVectors>
HWY_NOINLINE void product_registers(const TileProduct& p, std::int64_t depth) {
  using Row = AccumulatorRow<kVectors>;
  const float* a = p.a;
  const float* b = p.b;
  const std::int64_t a_row = p.a_row, a_step = p.a_step, b_pitch = p.b_pitch;
  Row r0, r1, r2, r3, r4, r5;
  r0.begin(p, 0);
  if constexpr (kRows > 1) r1.begin(p, 1);
  if constexpr (kRows > 2) r2.begin(p, 2);
  if constexpr (kRows > 3) r3.begin(p, 3);
  if constexpr (kRows > 4) r4.begin(p, 4);
  if constexpr (kRows > 5) r5.begin(p, 5);
  for (std::int64_t k = 0; k < depth; ++k, a += a_step, b += b_pitch) {
    Row column;
    column.load(b);
    r0.multiply_add(hn::Set(kFloats, a[0]), column);
    if constexpr (kRows > 1) r1.multiply_add(hn::Set(kFloats, a[a_row]), column);
    if constexpr (kRows > 2) r2.multiply_add(hn::Set(kFloats, a[2 * a_row]), column);
    if constexpr (kRows > 3) r3.multiply_add(hn::Set(kFloats, a[3 * a_row]), column);
    if constexpr (kRows > 4) r4.multiply_add(hn::Set(kFloats, a[4 * a_row]), column);
    if constexpr (kRows > 5) r5.multiply_add(hn::Set(kFloats, a[5 * a_row]), column);
  }
  r0.store(p.c);
  if constexpr (kRows > 1) r1.store(p.c + p.c_pitch);
  if constexpr (kRows > 2) r2.store(p.c + 2 * p.c_pitch);
  if constexpr (kRows > 3) r3.store(p.c + 3 * p.c_pitch);
  if constexpr (kRows > 4) r4.store(p.c + 4 * p.c_pitch);
  if constexpr (kRows > 5) r5.store(p.c + 5 * p.c_pitch);
}

template <int kVectors>
void product_strip(TileProduct p, std::int64_t rows, std::int64_t depth) {
  for (; rows >= 6; rows -= 6, p.a += 6 * p.a_row, p.c += 6 * p.c_pitch) {
    product_registers<6, kVectors>(p, depth);
  }
  switch (rows) {
    case 5:
      return product_registers<5, kVectors>(p, depth);
    case 4:
      return product_registers<4, kVectors>(p, depth);
    case 3:
      return product_registers<3, kVectors>(p, depth);
    case 2:
      return product_registers<2, kVectors>(p, depth);
    case 1:
      return product_registers<1, kVectors>(p, depth);
    default:
      return;
  }
}

/// The product for c of [rows, columns], columns a multiple of 16.
HWY_INLINE void tile_product(TileProduct p, std::int64_t rows, std::int64_t columns,
                             std::int64_t depth) {
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(kFloats));
  // 24 accumulators where there are 32 registers, 12 where there are 16.
  constexpr int kWidest = HWY_TARGET <= HWY_AVX3 ? 4 : 2;
  for (std::int64_t left = columns / lanes; left > 0;) {
    const std::int64_t vectors = std::min<std::int64_t>(left, kWidest);
    switch (vectors) {
      case 1:
        product_strip<1>(p, rows, depth);
        break;
      case 2:
        product_strip<2>(p, rows, depth);
        break;
      case 3:
        product_strip<3>(p, rows, depth);
        break;
      default:
        product_strip<4>(p, rows, depth);
        break;
    }
    left -= vectors;
    p.b += vectors * lanes;
    p.c += vectors * lanes;
  }
}

/// exp(x) for x <= 0 to 2 ulp; 0 below -87.33, where results would be subnormal; NaN stays NaN.
/// 2^n e^r with x = n ln 2 + r, |r| <= ln 2 / 2.
HWY_INLINE VF exp_nonpositive(VF x) {
  const hn::RebindToSigned<DF> ints;
  // The sum's low mantissa bits hold round(x / ln 2) + 127, the biased exponent of 2^n.
  const VF magic = hn::Set(kFloats, 12582912.0f + 127.0f);
  const VF shifted = hn::MulAdd(x, hn::Set(kFloats, 1.44269504f), magic);
  const VF n = hn::Sub(shifted, magic);
  VF r = hn::MulAdd(n, hn::Set(kFloats, -0.693359375f), x);
  r = hn::MulAdd(n, hn::Set(kFloats, 2.12194440e-4f), r);
  VF poly = hn::MulAdd(hn::Set(kFloats, 0.00139261771f), r, hn::Set(kFloats, 0.00836317427f));
  poly = hn::MulAdd(poly, r, hn::Set(kFloats, 0.0416665561f));
  poly = hn::MulAdd(poly, r, hn::Set(kFloats, 0.166665778f));
  poly = hn::MulAdd(poly, r, hn::Set(kFloats, 0.5f));
  poly = hn::Add(hn::MulAdd(poly, hn::Mul(r, r), r), hn::Set(kFloats, 1.0f));
  const VF power = hn::BitCast(kFloats, hn::ShiftLeft<23>(hn::BitCast(ints, shifted)));
  // A multiplication, not an addition to the exponent bits, so that NaN comes out as NaN.
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(kFloats, -87.33f)), hn::Mul(poly, power));
}

}  // namespace belfry::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
