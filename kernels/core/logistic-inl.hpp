// SPDX-License-Identifier: Apache-2.0
// The logistic function in SIMD, without cancellation on either side. For the CPU side of ops;
// included once a target, after highway.h.
#if defined(BELFRY_LOGISTIC_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef BELFRY_LOGISTIC_INL
#undef BELFRY_LOGISTIC_INL
#else
#define BELFRY_LOGISTIC_INL
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace belfry::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

HWY_INLINE FloatVec constant(double v) {
  return hn::Set(FloatTag(), static_cast<float>(v));
}
HWY_INLINE FloatVec negative_abs(FloatVec x) {
  return hn::Or(x, hn::SignBit(FloatTag()));
}
/// Highway's exp maps NaN to 0; a NaN must stay one, or a diverged model looks healthy.
HWY_INLINE FloatVec keep_nan(FloatVec x, FloatVec y) {
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}
struct Logistic {
  FloatVec value;       ///< 1 / (1 + exp(-x))
  FloatVec complement;  ///< 1 - value, without cancellation
};
HWY_INLINE Logistic logistic(FloatVec x) {
  const FloatVec one = constant(1);
  const FloatVec e = hn::Exp(FloatTag(), negative_abs(x));
  const FloatVec large = hn::Div(one, hn::Add(one, e));  // of |x|
  const FloatVec small = hn::Mul(e, large);
  const auto below = hn::Lt(x, hn::Zero(FloatTag()));
  return {keep_nan(x, hn::IfThenElse(below, small, large)),
          keep_nan(x, hn::IfThenElse(below, large, small))};
}

}  // namespace belfry::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BELFRY_LOGISTIC_INL
