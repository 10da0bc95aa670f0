#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "devices/network/link/link_options.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// What a cable does to the frames that the NIC sends: it loses some, and the others take time. All of it by the
/// machine's clock and a generator with a seed, so that it is the same again.
class Impairment {
  public:
    struct Choice {
        uint32_t lost_in_a_million = 0;
        Duration delay{};
        uint64_t bits_per_second = 0;  // 0: at once
        uint64_t seed = 1;
        [[nodiscard]] bool nothing() const {
            return lost_in_a_million == 0 && delay == Duration{} && bits_per_second == 0;
        }
    };
    /// Takes loss=P%, delay=N(us|ms|s), rate=N[KMG] (bits a second) and seed=N out of the options of a link.
    static Result<Choice> extract(LinkOptions& options);

    /// Frames on their way at most; what comes then is lost.
    static constexpr size_t most_frames = 4096;

    Impairment(const Choice& choice, Clock& clock, std::function<void(std::span<const uint8_t>)> arrive)
        : choice_(choice),
          clock_(clock),
          arrive_(std::move(arrive)),
          random_(choice.seed),
          timer_(clock, [this](VirtualTime) { arrived(); }) {}
    void send(std::span<const uint8_t> frame);
    /// The cable was pulled out.
    void clear();

  private:
    struct OnTheWay {
        VirtualTime due;
        std::vector<uint8_t> frame;
    };
    void arrived();
    uint64_t next_random();

    Choice choice_;
    Clock& clock_;
    std::function<void(std::span<const uint8_t>)> arrive_;
    uint64_t random_;
    VirtualTime free_at_{};  // when the last bit has left
    std::deque<OnTheWay> frames_;
    Timer timer_;
};

}  // namespace viv
