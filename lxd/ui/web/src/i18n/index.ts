import i18next from "i18next";
import { initReactI18next } from "react-i18next";
import en from "./en.json" with { type: "json" };

declare module "i18next" {
  interface CustomTypeOptions {
    defaultNS: "translation";
    resources: { translation: typeof en };
  }
}

// Another language is another file here and a line below.
export const languages = { en: { translation: en } };

export function startI18n(): void {
  void i18next.use(initReactI18next).init({
    resources: languages,
    fallbackLng: "en",
    lng: "en",
    interpolation: { escapeValue: false }, // React escapes
    returnNull: false,
  });
  document.documentElement.lang = i18next.language;
}
