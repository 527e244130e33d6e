import { notifications } from "@mantine/notifications";
import { useMemo } from "react";
import { useTranslation } from "react-i18next";

/** The sentence of an error: the API's own, where it is from there. */
export function sentence(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}

/** Tells people what came of what they did, in a corner of the window. */
export function useTell() {
  const { t } = useTranslation();
  return useMemo(() => {
    const close = { closeButtonProps: { "aria-label": t("common.close") } };
    return {
      done(title: string) {
        notifications.show({ color: "teal", message: title, ...close });
      },
      error(title: string, e: unknown) {
        notifications.show({ color: "red", title, message: sentence(e), autoClose: 12_000, role: "alert", ...close });
      },
      /** Shows that something goes on, until what it returns says how that ended. */
      working(title: string) {
        const id = notifications.show({ loading: true, message: title, autoClose: false, withCloseButton: false });
        return {
          progress(message: string) {
            notifications.update({ id, loading: true, title, message, autoClose: false, withCloseButton: false });
          },
          done(message: string) {
            notifications.update({ id, loading: false, color: "teal", title: undefined, message, autoClose: 3_000, withCloseButton: true, ...close });
          },
          error(failure: string, e: unknown) {
            notifications.update({
              id,
              loading: false,
              color: "red",
              title: failure,
              message: sentence(e),
              autoClose: 12_000,
              withCloseButton: true,
              role: "alert",
              ...close,
            });
          },
        };
      },
    };
  }, [t]);
}
