#pragma once

#include <memory>

#include "devices/usb/uhci.hpp"

namespace viv {

/// One of the controller's ports, as its device sees it.
class Uhci::Port final : public UsbUpstream {
  public:
    Port(Uhci& owner, unsigned index) : owner_(owner), index_(index) {}

    void news(bool remote_wakeup) override;
    [[nodiscard]] bool connected() const override;

    std::unique_ptr<UsbHid> device;

  private:
    Uhci& owner_;
    unsigned index_;
};

}  // namespace viv
